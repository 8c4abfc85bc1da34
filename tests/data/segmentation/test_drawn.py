"""Outlines of objects, in the files of detection, as label maps."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.errors import DataError, NothingFoundError
from swin_transformer_pytorch.data.segmentation.drawn import DrawnLabelMaps
from swin_transformer_pytorch.data.segmentation.source import DRAWN_KINDS, SegmentationSource
from swin_transformer_pytorch.training import load_recipe
from swin_transformer_pytorch.training.recipes.parts import RecipeError

HEIGHT, WIDTH = 24, 32
Box = tuple[int, int, int, int]
# In the order in which they were annotated; the last has a box alone.
OBJECTS: tuple[tuple[str, Box, bool], ...] = (
    ("car", (4, 4, 20, 16), True),
    ("person", (10, 8, 30, 20), True),
    ("tree", (0, 18, 6, 24), False),
)
NAMES = "abcde"
Writer = Callable[..., None]


def corners(box: Box) -> list[list[float]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def pictures(folder: Path, names: str = NAMES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(folder / f"{name}.png")


def write_coco(root: Path, objects: Any = OBJECTS) -> None:
    pictures(root / "images")
    classes = sorted({name for name, _, _ in objects})
    sizes = {"width": WIDTH, "height": HEIGHT}
    images = [{"id": number, "file_name": f"{name}.png"} | sizes for number, name in enumerate(NAMES)]
    annotations = []
    for image in images:
        for name, (left, top, right, bottom), outline in objects:
            shape = [[number for corner in corners((left, top, right, bottom)) for number in corner]] if outline else []
            box = [left, top, right - left, bottom - top]
            record = {"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "segmentation": shape}
            kind = {"image_id": image["id"], "id": len(annotations), "category_id": classes.index(name)}
            annotations.append(record | kind)
    categories = [{"id": index, "name": name} for index, name in enumerate(classes)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(document))


def write_labelme(root: Path, objects: Any = OBJECTS, names: str = NAMES) -> None:
    pictures(root, names)
    shapes = [
        {
            "label": name,
            "shape_type": "polygon" if outline else "rectangle",
            "points": corners(box) if outline else corners(box)[::2],
        }
        for name, box, outline in objects
    ]
    for name in names:
        document = {"imagePath": f"{name}.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}
        (root / f"{name}.json").write_text(json.dumps(document))


def write_label_studio(root: Path, objects: Any = OBJECTS) -> None:
    pictures(root / "images")
    rows = []
    for number, image in enumerate(NAMES):
        found: list[dict[str, Any]] = []
        for name, box, outline in objects:
            points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(box)]
            (left, top), (right, bottom) = points[0], points[2]
            shape: dict[str, Any] = {"points": points, "polygonlabels": [name]}
            if not outline:
                shape = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rectanglelabels": [name]}
            found.append(shape | {"original_width": WIDTH, "original_height": HEIGHT})
        rows.append({"image": f"/data/upload/{image}.png", "id": number, "label": found, "annotation_id": number})
    (root / "project.json").write_text(json.dumps(rows))


def write_cvat(root: Path, objects: Any = OBJECTS) -> None:
    pictures(root / "images")
    lines = []
    for z, (name, box, outline) in reversed([*enumerate(objects)]):  # z_order says which is above
        points = ";".join(f"{x},{y}" for x, y in corners(box))
        left, top, right, bottom = box
        edges = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
        shape = f'polygon points="{points}"' if outline else f"box {edges}"
        lines.append(f'<{shape} label="{name}" z_order="{z}"/>')
    body = "".join(lines)
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    images = "".join(f'<image id="{n}" name="{name}.png" {size}>{body}</image>' for n, name in enumerate(NAMES))
    (root / "annotations.xml").write_text(f"<annotations>{images}</annotations>")


WRITERS: dict[str, Writer] = {
    "coco": write_coco,
    "labelme": write_labelme,
    "label_studio": write_label_studio,
    "cvat": write_cvat,
}


def expected(car: int, person: int, rest: int, ignored: int = 255) -> Any:
    labels = np.full((HEIGHT, WIDTH), rest, dtype=np.uint8)
    for (_, (left, top, right, bottom), _), label in zip(OBJECTS, (car, person, ignored), strict=True):
        labels[top:bottom, left:right] = label
    return labels


def test_every_kind_is_tried() -> None:
    assert set(WRITERS) == set(DRAWN_KINDS)


@pytest.mark.parametrize(
    ("options", "classes", "labels"),
    [
        ({}, ("car", "person", "tree"), expected(0, 1, 255)),
        ({"background": True}, ("background", "car", "person", "tree"), expected(1, 2, 0)),
        ({"choice": ["person"]}, ("person",), expected(255, 0, 255)),
        ({"choice": {"thing": ["car", "person"], "tree": ["tree"]}}, ("thing", "tree"), expected(0, 0, 255)),
        ({"background": True, "choice": ["person", "background"]}, ("person", "background"), expected(255, 0, 1)),
        ({"classes": ("person", "boat", "car")}, ("person", "boat", "car"), expected(2, 0, 255)),
        ({"classes": ("person", "background")}, ("person", "background"), expected(255, 0, 1)),
    ],
)
@pytest.mark.parametrize("kind", WRITERS)
def test_later_objects_lie_over_earlier_ones_and_the_rest_is_ignored_or_background(
    kind: Any, options: dict[str, Any], classes: tuple[str, ...], labels: Any, tmp_path: Path
) -> None:
    WRITERS[kind](tmp_path)
    source = SegmentationSource(kind=kind, root=str(tmp_path), **options)
    train, val = source.open("train"), source.open("val")
    assert isinstance(train, DrawnLabelMaps)
    assert (len(train), len(val), {*train.names} & {*val.names}) == (4, 1, set())
    for data in (train, val):
        assert data.classes == classes
        for index in range(len(data)):
            sample = data[index]
            np.testing.assert_array_equal(sample.labels, labels)
            assert sample.image.getpixel((0, 0)) == (NAMES.index(Path(sample.name).name), 0, 0)


def test_what_is_ignored_and_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_labelme(tmp_path)
    with caplog.at_level(logging.WARNING):
        SegmentationSource(kind="labelme", root=str(tmp_path), choice=["person", "tree"]).open("train")
    assert "4 of 12 objects have no outline: the pixels in their boxes are ignored" in caplog.text
    assert "classes that are not asked for are ignored: car" in caplog.text


def test_boxes_alone_are_no_label_maps(tmp_path: Path) -> None:
    write_labelme(tmp_path, OBJECTS[2:])
    with pytest.raises(NothingFoundError, match="has no outlines of objects.*annotate polygons"):
        SegmentationSource(kind="labelme", root=str(tmp_path)).open("train")


def test_crowds_are_ignored(tmp_path: Path) -> None:
    write_coco(tmp_path, OBJECTS[:2])
    path = tmp_path / "annotations.json"
    document = json.loads(path.read_text())
    for one in document["annotations"][1::2]:
        one["iscrowd"] = 1
    path.write_text(json.dumps(document))
    data = SegmentationSource(kind="coco", root=str(tmp_path), background=True).open("train")
    labels = expected(1, 255, 0)
    labels[18:, :6] = 0  # there is no tree
    np.testing.assert_array_equal(data[0].labels, labels)


def test_folders_and_coco_annotations_may_be_given_by_name(tmp_path: Path) -> None:
    write_coco(tmp_path)
    pair = (str(tmp_path / "images"), str(tmp_path / "annotations.json"))
    data = replace(SegmentationSource(kind="coco"), train=pair).open("train")
    assert len(data) == 5
    np.testing.assert_array_equal(data[0].labels, expected(0, 1, 255))


def test_background_is_asked_of_outlines_alone() -> None:
    with pytest.raises(RecipeError, match=r"data\.background=True.*'folder'"):
        load_recipe("finetune_segmentation", ["--data.root", "x", "--data.background", "true"])


def test_more_classes_than_bytes_hold_are_refused(tmp_path: Path) -> None:
    write_labelme(tmp_path, [(f"c{number:03}", (1, 1, 9, 9), True) for number in range(256)], "ab")
    with pytest.raises(DataError, match="256 classes are too many"):
        SegmentationSource(kind="labelme", root=str(tmp_path)).open("train")
