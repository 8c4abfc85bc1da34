"""One small data set in every layout that tools export: each is recognised, and gives the same boxes, labels, masks."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from swin_transformer_pytorch.data.detection.layouts import find_parts
from swin_transformer_pytorch.data.detection.source import DetectionSource

HEIGHT, WIDTH = 48, 64
CLASSES = ("bus", "car", "person")
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Object:
    name: str
    box: tuple[int, int, int, int]  # left, top, right, bottom
    points: Points = ()

    @property
    def rectangle(self) -> Points:
        left, top, right, bottom = self.box
        return self.points or ((left, top), (right, top), (right, bottom), (left, bottom))


TRIANGLE = Object("person", (4, 6, 34, 40), ((4.0, 6.0), (34.0, 10.0), (12.0, 40.0)))
CONTENT: dict[str, dict[str, list[Object]]] = {
    "train": {
        "a": [Object("car", (8, 4, 40, 36)), TRIANGLE],
        "b": [Object("bus", (1, 1, 64, 48))],
        "c": [],
        "d": [Object("person", (20, 10, 30, 46))],
    },
    "val": {"e": [Object("car", (3, 5, 33, 25))], "f": [Object("bus", (2, 2, 20, 44)), TRIANGLE]},
}


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.stem)).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def each() -> Iterator[tuple[str, str, list[Object]]]:
    for split, images in CONTENT.items():
        for name, objects in images.items():
            yield split, name, objects


def coco(split: str) -> dict[str, object]:
    images, annotations = [], []
    for number, (name, objects) in enumerate(CONTENT[split].items()):
        images.append({"id": number, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH})
        for one in objects:
            left, top, right, bottom = one.box
            record = {"id": len(annotations), "image_id": number, "category_id": 1 + CLASSES.index(one.name)}
            record |= {"bbox": [left, top, right - left, bottom - top]}
            annotations.append(record | {"segmentation": [sum(map(list, one.rectangle), [])]})
    categories = [{"id": 1 + index, "name": name} for index, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path) -> None:
    for split in CONTENT:
        write(root / "annotations" / f"instances_{split}2017.json", coco(split))
    for split, name, _ in each():
        picture(root / f"{split}2017" / f"{name}.png")


def write_roboflow_coco(root: Path) -> None:
    for split in CONTENT:
        write(root / split.replace("val", "valid") / "_annotations.coco.json", coco(split))
    for split, name, _ in each():
        picture(root / split.replace("val", "valid") / f"{name}.png")


def yolo_line(one: Object) -> str:
    label = CLASSES.index(one.name)
    if one.points:
        return f"{label} " + " ".join(f"{x / WIDTH!r} {y / HEIGHT!r}" for x, y in one.points)
    left, top, right, bottom = one.box
    numbers = ((left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT)
    return f"{label} " + " ".join(map(repr, numbers))


def write_yolo(root: Path, images: str, labels: str) -> None:
    for split, name, objects in each():
        picture(root / images.format(split) / f"{name}.png")
        write(root / labels.format(split) / f"{name}.txt", "\n".join(map(yolo_line, objects)))


def write_ultralytics(root: Path) -> None:
    write_yolo(root, "images/{}", "labels/{}")
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    write(root / "shapes.yaml", f"path: ../datasets/shapes\ntrain: images/train\nval: images/val\nnames:\n{names}")


def write_roboflow_yolo(root: Path) -> None:
    write_yolo(root, "{}/images", "{}/labels")
    text = "train: ../train/images\nval: ../val/images\ntest: ../test/images\nnc: 3\nnames: ['bus', 'car', 'person']\n"
    write(root / "data.yaml", text)


def write_yolo_lists(root: Path) -> None:
    write_yolo(root, "images", "labels")
    for split, images in CONTENT.items():
        write(root / f"{split}.txt", "\n".join(f"/content/data/images/{name}.png" for name in images))
    write(root / "data.yaml", "path: /content/data\ntrain: train.txt\nval: [val.txt]\nnames: [bus, car, person]\n")


def write_yolo_classes(root: Path) -> None:
    write_yolo(root, "images/{}", "labels/{}")
    write(root / "classes.txt", "bus\ncar\nperson\n")


def write_darknet(root: Path) -> None:
    write_yolo(root, "{}", "{}")
    write(root / "train" / "_darknet.labels", "bus\ncar\nperson\n")


Writer = Callable[[Path], None]
WRITERS: dict[str, tuple[str, Writer]] = {
    "COCO": ("coco", write_coco),
    "Roboflow COCO": ("coco", write_roboflow_coco),
    "Ultralytics": ("yolo", write_ultralytics),
    "Roboflow YOLO": ("yolo", write_roboflow_yolo),
    "YOLO with lists": ("yolo", write_yolo_lists),
    "YOLO with classes.txt": ("yolo", write_yolo_classes),
    "Darknet of Roboflow": ("yolo", write_darknet),
}
every_layout = pytest.mark.parametrize(("layout", "writer"), WRITERS.values(), ids=WRITERS)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
@every_layout
def test_every_layout_gives_the_same_objects(layout: str, writer: Writer, tmp_path: Path) -> None:
    writer(tmp_path)
    assert find_parts(tmp_path)[0] == layout
    source = DetectionSource(kind="folder", root=str(tmp_path), box_masks=True)
    for split, images in CONTENT.items():
        data = source.open(split)  # type: ignore[arg-type]
        assert data.classes == CLASSES
        by_name = {Path(one["file_name"]).stem: index for index, one in enumerate(data.annotations["images"])}
        assert set(by_name) == set(images)
        for name, objects in images.items():
            sample = data[by_name[name]]
            np.testing.assert_allclose(
                sample.boxes_xyxy, np.array([one.box for one in objects]).reshape(-1, 4), atol=1e-4
            )
            assert [data.classes[label] for label in sample.labels] == [one.name for one in objects]
            for one, mask in zip(objects, sample.masks, strict=True):
                outline = coco_mask.frPyObjects([sum(map(list, one.rectangle), [])], HEIGHT, WIDTH)
                np.testing.assert_array_equal(mask, coco_mask.decode(outline)[..., 0])


@every_layout
def test_training_counts_images_without_objects_and_keeps_them_if_asked(
    layout: str, writer: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer(tmp_path)
    source = DetectionSource(kind="folder", root=str(tmp_path), box_masks=True)
    assert len(source.open("train", training=True)) == 3
    assert "1 images without objects are left out" in caplog.text
    kept = replace(source, keep_empty=True).open("train", training=True)
    assert sorted(len(kept[index]) for index in range(len(kept))) == [0, 1, 1, 2]
    assert "1 images without objects are kept" in caplog.text
