"""One small data set in every layout that tools export: each is recognised, and gives the same boxes, labels, masks."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from swin_transformer_pytorch.data.detection.coco import CocoDataset
from swin_transformer_pytorch.data.detection.layouts import find_detection, find_parts
from swin_transformer_pytorch.data.detection.source import DetectionSource
from swin_transformer_pytorch.data.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself

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


def voc_xml(name: str, objects: list[Object]) -> str:
    parts = [f"<filename>{name}.png</filename><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"]
    for one in objects:
        left, top, right, bottom = one.box  # the first pixel is 1, and the last is part of the box
        sides = f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
        parts.append(f"<object><name>{one.name}</name><difficult>0</difficult><bndbox>{sides}</bndbox></object>")
    return f"<annotation>{''.join(parts)}</annotation>"


def outline(one: Object) -> np.ndarray:
    """What pycocotools makes of an object's polygon."""
    return coco_mask.decode(coco_mask.frPyObjects([sum(map(list, one.rectangle), [])], HEIGHT, WIDTH))[..., 0]


def write_voc(root: Path) -> None:
    for _, name, objects in each():
        picture(root / "JPEGImages" / f"{name}.png")
        write(root / "Annotations" / f"{name}.xml", voc_xml(name, objects))
    for split, images in CONTENT.items():
        write(root / "ImageSets" / "Main" / f"{split}.txt", "\n".join(images))
    write(root / "ImageSets" / "Main" / "car_train.txt", "a 1\nb -1\n")


def write_roboflow_voc(root: Path) -> None:
    for split, name, objects in each():
        picture(root / split.replace("val", "valid") / f"{name}.png")
        write(root / split.replace("val", "valid") / f"{name}.xml", voc_xml(name, objects))


def labelme(name: str, objects: list[Object], image: str) -> dict[str, object]:
    shapes = [
        {
            "label": one.name,
            "points": [*map(list, one.points)] or [list(one.box[:2]), list(one.box[2:])],
            "group_id": None,
            "shape_type": "polygon" if one.points else "rectangle",
            "flags": {},
        }
        for one in objects
    ]
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None}
    return content | {"imageHeight": HEIGHT, "imageWidth": WIDTH}


def write_labelme(root: Path) -> None:
    for split, name, objects in each():
        picture(root / split / f"{name}.png")
        write(root / split / f"{name}.json", labelme(name, objects, f"{name}.png"))


def write_labelme_apart(root: Path) -> None:
    for split, name, objects in each():
        picture(root / "images" / split / f"{name}.png")
        write(
            root / "annotations" / split / f"{name}.json",
            labelme(name, objects, f"..\\..\\images\\{split}\\{name}.png"),
        )


def write_cvat(root: Path) -> None:
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    images = []
    for number, (split, name, objects) in enumerate(each()):
        subset = {"train": "Train", "val": "Validation"}[split]
        picture(root / "images" / subset / f"{name}.png")
        shapes = []
        for one in objects:
            points = ";".join(f"{x},{y}" for x, y in one.points)
            left, top, right, bottom = one.box
            box = f'<box label="{one.name}" xtl="{left}.00" ytl="{top}.00" xbr="{right}.00" ybr="{bottom}.00"/>'
            shapes.append(f'<polygon label="{one.name}" points="{points}" z_order="0"/>' if points else box)
        size = f'width="{WIDTH}" height="{HEIGHT}"'
        images.append(f'<image id="{number}" name="{name}.png" subset="{subset}" {size}>{"".join(shapes)}</image>')
    meta = f"<meta><project><labels>{labels}</labels></project></meta>"
    write(
        root / "annotations.xml",
        f"<?xml version='1.0'?><annotations><version>1.1</version>{meta}{''.join(images)}</annotations>",
    )


def percentages(points: Points) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def label_studio(one: Object) -> dict[str, object]:
    (x, y), (right, bottom) = percentages((one.box[:2], one.box[2:]))
    box = {"x": x, "y": y, "width": right - x, "height": bottom - y, "rotation": 0}
    kind = "polygonlabels" if one.points else "rectanglelabels"
    value = {"points": percentages(one.points)} if one.points else box
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": one.name, "type": kind, "from_name": "label", "value": value | {kind: [one.name]}} | size


def write_label_studio(root: Path) -> None:
    tasks = []
    for number, (_, name, objects) in enumerate(each()):
        picture(root / "images" / f"{name}.png")
        annotation = {"id": number, "was_cancelled": False, "result": [label_studio(one) for one in objects]}
        image = f"/data/upload/1/{number:08x}-{name}.png"
        tasks.append({"id": number, "annotations": [annotation], "predictions": [], "data": {"image": image}})
    write(root / "project-1-at-2026-01-01-00-00-abcdef12.json", tasks)


def write_label_studio_min(root: Path) -> None:
    rows = []
    for number, (_, name, objects) in enumerate(each()):
        picture(root / "images" / f"{name}.png")
        shapes: list[dict[str, object]] = []
        for one in objects:
            full = label_studio(one)
            value, size = full["value"], {key: full[key] for key in ("original_width", "original_height")}
            assert isinstance(value, dict)
            shapes.append(value | size | ({} if not shapes else {"type": "RectangleLabels"}))
        row = {"photo": f"/data/upload/1/{number:08x}-{name}.png", "id": number, "label": shapes, "choice": "good"}
        rows.append(row | {"annotator": 1, "annotation_id": number, "created_at": "2026-01-01T00:00:00Z"})
    again = rows[0] | {"label": [], "annotation_id": 99}  # another person's annotation of the same task
    write(root / "project-1-at-2026-01-01-00-00-abcdef12.json", [*rows, again])


def write_label_studio_csv(root: Path) -> None:
    """A row is what JSON-MIN has of a task, its shapes as JSON in a cell."""
    write_label_studio_min(root)
    (made,) = root.glob("*.json")
    rows = json.loads(made.read_text())
    made.unlink()
    with (root / "project-1-at-2026-01-01-00-00-abcdef12.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "label": json.dumps(row["label"]) if row["label"] else ""} for row in rows)


def write_cvat_coco(root: Path) -> None:
    both = [coco(split) for split in CONTENT]
    for _, name, _ in each():
        picture(root / "images" / "default" / f"{name}.png")
    images, annotations = [*both[0]["images"]], [*both[0]["annotations"]]  # type: ignore[misc]
    images += [one | {"id": one["id"] + 100} for one in both[1]["images"]]  # type: ignore[attr-defined]
    more = both[1]["annotations"]
    annotations += [one | {"id": one["id"] + 100, "image_id": one["image_id"] + 100} for one in more]  # type: ignore[attr-defined]
    whole = both[0] | {"images": images, "annotations": annotations}
    write(root / "annotations" / "instances_default.json", whole)


def write_flat_voc(root: Path) -> None:
    for _, name, objects in each():
        picture(root / "images" / f"{name}.png")
        write(root / "annotations" / f"{name}.xml", voc_xml(name, objects))


def write_flat_labelme(root: Path) -> None:
    for _, name, objects in each():
        picture(root / f"{name}.png")
        write(root / f"{name}.json", labelme(name, objects, f"{name}.png"))


def write_flat_yolo(root: Path) -> None:
    write_yolo(root, "images", "labels")
    write(root / "classes.txt", "bus\ncar\nperson\n")
    write(root / "notes.json", {"categories": []})


def write_cvat_yolo(root: Path) -> None:
    write_yolo(root, "obj_train_data", "obj_train_data")
    write(root / "obj.names", "bus\ncar\nperson\n")
    write(root / "obj.data", "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\n")
    write(root / "train.txt", "\n".join(f"data/obj_train_data/{name}.png" for _, name, _ in each()))


Writer = Callable[[Path], None]
WRITERS: dict[str, tuple[str, Writer]] = {
    "COCO": ("coco", write_coco),
    "Roboflow COCO": ("coco", write_roboflow_coco),
    "Ultralytics": ("yolo", write_ultralytics),
    "Roboflow YOLO": ("yolo", write_roboflow_yolo),
    "YOLO with lists": ("yolo", write_yolo_lists),
    "YOLO with classes.txt": ("yolo", write_yolo_classes),
    "Darknet of Roboflow": ("yolo", write_darknet),
    "Pascal VOC": ("voc", write_voc),
    "Roboflow VOC": ("voc", write_roboflow_voc),
    "labelme": ("labelme", write_labelme),
    "labelme in two folders": ("labelme", write_labelme_apart),
    "CVAT for images": ("cvat", write_cvat),
}
WHOLE: dict[str, tuple[str, Writer]] = {
    "CVAT COCO": ("coco", write_cvat_coco),
    "Label Studio YOLO": ("yolo", write_flat_yolo),
    "CVAT YOLO": ("yolo", write_cvat_yolo),
    "labelImg": ("voc", write_flat_voc),
    "labelme": ("labelme", write_flat_labelme),
    "Label Studio": ("label_studio", write_label_studio),
    "Label Studio JSON-MIN": ("label_studio", write_label_studio_min),
    "Label Studio CSV": ("label_studio", write_label_studio_csv),
}
every_layout = pytest.mark.parametrize(("layout", "writer"), WRITERS.values(), ids=WRITERS)


@every_layout
def test_every_layout_gives_the_same_objects(layout: str, writer: Writer, tmp_path: Path) -> None:
    writer(tmp_path)
    assert find_parts(tmp_path)[0] == layout
    source = DetectionSource(kind="folder", root=str(tmp_path), box_masks=True)
    for split, images in CONTENT.items():
        check(source.open(split), layout, images)


@pytest.mark.parametrize("name", ["COCO", "Roboflow COCO", "labelme", "labelme in two folders", "CVAT for images"])
def test_a_part_for_tests_is_opened_where_there_is_one_and_nothing_stands_in(name: str, tmp_path: Path) -> None:
    WRITERS[name][1](tmp_path)
    source = DetectionSource(kind="folder", root=str(tmp_path), box_masks=True)
    with pytest.raises(DataError, match="test"):
        source.open("test")
    for path in sorted(tmp_path.rglob("*val*"), reverse=True):
        path.rename(path.with_name(path.name.replace("valid", "test").replace("val", "test")))
    for path in (*tmp_path.glob("*.xml"), *tmp_path.rglob("*.json")):
        write(path, path.read_text().replace("Validation", "Test").replace("\\val\\", "\\test\\"))
    assert len(source.open("test")) == len(CONTENT["val"])
    assert len(source.open("train")) + len(source.open("val")) == len(CONTENT["train"])


@pytest.mark.parametrize(("layout", "writer"), WHOLE.values(), ids=WHOLE)
def test_of_layouts_without_parts_some_images_are_held_out(layout: str, writer: Writer, tmp_path: Path) -> None:
    writer(tmp_path)
    assert find_parts(tmp_path)[0] == layout
    source = DetectionSource(kind="folder", root=str(tmp_path), box_masks=True, val_fraction=0.34)
    parts = {}
    for split in ("train", "val"):
        assert find_detection(tmp_path, split).hold_out
        data = source.open(split)
        parts[split] = {Path(one["file_name"]).stem for one in data.annotations["images"]}
        check(data, layout, {name: objects for _, name, objects in each() if name in parts[split]})
    assert {key: len(names) for key, names in parts.items()} == {"train": 4, "val": 2}
    assert parts["train"] | parts["val"] == set("abcdef")
    others = {tuple(replace(source, seed=seed).open("val").image_ids) for seed in range(8)}
    assert len(others) > 2


def check(data: CocoDataset, layout: str, images: dict[str, list[Object]]) -> None:
    assert data.classes == CLASSES
    by_name = {Path(one["file_name"]).stem: index for index, one in enumerate(data.annotations["images"])}
    assert set(by_name) == set(images)
    for name, objects in images.items():
        if layout == "voc":  # its masks are in other files
            objects = [replace(one, points=()) for one in objects]
        sample = data[by_name[name]]
        np.testing.assert_allclose(sample.boxes_xyxy, np.array([one.box for one in objects]).reshape(-1, 4), atol=1e-4)
        assert [data.classes[label] for label in sample.labels] == [one.name for one in objects]
        for one, mask in zip(objects, sample.masks, strict=True):
            np.testing.assert_array_equal(mask, outline(one))


@every_layout
def test_training_counts_images_without_objects_and_keeps_them_if_asked(
    layout: str, writer: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer(tmp_path)
    source = DetectionSource(kind="folder", root=str(tmp_path), box_masks=True)
    assert len(source.open("train", training=True)) == 3
    assert "1 image without objects: left out" in caplog.text
    kept = replace(source, keep_empty=True).open("train", training=True)
    assert sorted(len(kept[index]) for index in range(len(kept))) == [0, 1, 1, 2]
    assert "1 image without objects: kept" in caplog.text
