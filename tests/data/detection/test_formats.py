"""What people and their tools get wrong in files of objects: it is refused by name, or taken, counted and said."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import VOCDetection

from swin_transformer_pytorch.data.detection.coco import CocoDataset
from swin_transformer_pytorch.data.detection.label_studio import decode_brush
from swin_transformer_pytorch.data.detection.source import DetectionKind, DetectionSource
from swin_transformer_pytorch.data.errors import DataError, ImageError

HEIGHT, WIDTH = 48, 64
Files = dict[str, str]


def lay(root: Path, files: Files, images: tuple[str, ...] = ("a.png",)) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for number, name in enumerate(images):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(root / name)
    return root


def opened(root: Path, kind: DetectionKind = "folder", **options: Any) -> CocoDataset:
    source = DetectionSource(kind=kind, root=str(root), box_masks=True, val_fraction=0, **options)
    data = source.open("train")
    assert isinstance(data, CocoDataset)
    return data


def boxes(data: CocoDataset, index: int = 0) -> list[tuple[str, list[float]]]:
    sample = data[index]
    corners = [[round(side, 3) for side in box] for box in sample.boxes_xyxy.tolist()]
    return [(data.classes[label], box) for label, box in zip(sample.labels, corners, strict=True)]


def yolo(*lines: str, names: str = "[cat, dog]", **files: str) -> Files:
    more = {name.replace("__", "/").replace("_txt", ".txt"): text for name, text in files.items()}
    found = {"data.yaml": f"train: images\nnames: {names}\n", "labels/a.txt": "\n".join(lines)} | more
    return {name: text for name, text in found.items() if text != "none"}


def voc(*objects: str, size: str = "<size><width>64</width><height>48</height></size>", start: str = "") -> Files:
    return {"Annotations/a.xml": f"{start}<annotation>{size}{''.join(objects)}</annotation>"}


def box(name: str = "cat", sides: str = "11 6 30 40", more: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), sides.split(), strict=True)
    return f"<object><name>{name}</name>{more}<bndbox>{''.join(f'<{t}>{v}</{t}>' for t, v in tags)}</bndbox></object>"


def labelme(*shapes: dict[str, Any], **more: Any) -> Files:
    content = {"shapes": [*shapes], "imagePath": "a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH} | more
    return {"a.json": json.dumps(content)}


def shape(
    kind: str, *points: tuple[float, float], label: Any = "cat", group: int | None = None, **more: Any
) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": [*map(list, points)], "group_id": group} | more


def studio(*results: dict[str, Any], image: str = "/data/upload/1/0123abcd-a.png", **annotation: Any) -> Files:
    given = {"result": [*results]} | annotation
    return {"export.json": json.dumps([{"id": 7, "annotations": [given], "data": {"image": image}}])}


def result(kind: str, **value: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "id": "r"}
    return {"type": kind, "value": {kind: ["cat"]} | value} | size


PERCENT = {"x": 12.5, "y": 25, "width": 25, "height": 50}


def cvat(*shapes: str, image: str = 'id="0" name="a.png" width="64" height="48"', more: str = "") -> Files:
    labels = "<meta><task><labels><label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>"
    return {"annotations.xml": f"<annotations>{labels}<image {image}>{''.join(shapes)}</image>{more}</annotations>"}


CAT = '<box label="cat" xtl="8" ytl="12" xbr="24" ybr="36"/>'
REFUSED: dict[str, tuple[Files, str]] = {
    "class beyond the names": (yolo("2 0.5 0.5 0.1 0.1"), r"a\.txt line 1: its class is 2, and data\.yaml has 2"),
    "class that is no index": (yolo("0 0.5 0.5 0.1 0.1", "cat 0.5 0.5 0.1 0.1"), r"line 2: could not convert .*'cat'"),
    "half a class": (yolo("0.5 0.5 0.5 0.1 0.1"), "its class is 0.5"),
    "pixels": (yolo("0 32 24 10 10"), r"beyond \[0, 1\]"),
    "infinite": (yolo("0 inf 0.5 0.1 0.1"), r"beyond \[0, 1\]"),
    "no number": (yolo("0 nan 0.5 0.1 0.1"), r"beyond \[0, 1\]"),
    "five numbers": (yolo("0 0.5 0.5 0.1 0.1 0.9"), "it has 5 numbers after the class"),
    "names twice": (
        yolo("0 0.5 0.5 0.1 0.1", "1 0.5 0.5 0.1 0.1", names="[cat, cat]"),
        "several classes of one name: cat",
    ),
    "names that YAML reads otherwise": (yolo(names="[cat, no]"), "quote words such as 'no'"),
    "names with a gap": (yolo(names="{0: cat, 2: dog}"), "names=.* are no class names"),
    "a folder that is not there": (yolo(names="[a]\ntrain: elsewhere"), "names ./elsewhere, which is not in"),
    "labels that are no text": ({**yolo(), "labels/a.txt": "\0" * 9}, "line 1: could not convert"),
    "VOC: entities": (
        voc(box("&a;"), start='<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'),
        "DOCTYPE, which could define entities",
    ),
    "VOC: cut short": ({"Annotations/a.xml": "<annotation><object>"}, "is not XML that can be read"),
    "VOC: no box": (voc("<object><name>cat</name></object>"), r"a\.xml object 1: it has no bndbox"),
    "VOC: no name": (voc(box("")), "object 1: it has no name"),
    "VOC: half a box": (voc("<object><name>c</name><bndbox><xmin>3</xmin></bndbox></object>"), "object 1: could not"),
    "VOC: infinite": (voc(box(sides="1 1 inf 9")), "object 1: its bbox is"),
    "VOC: no image": ({"Annotations/b.xml": voc(box())["Annotations/a.xml"]}, "there is no b in"),
    "labelme: no label": (labelme(shape("rectangle", (1, 2), (30, 40), label=None)), r"shape 0: its label is None"),
    "labelme: a line": (labelme(shape("polygon", (1, 2), (30, 40))), "a polygon of 2 points, and needs 3"),
    "labelme: no number": (labelme(shape("polygon", (1, 2), (30, 4), (9, float("nan")))), "'cat': its area is nan"),
    "labelme: not a point": (
        labelme({"label": "cat", "points": [[1]], "shape_type": "polygon"}),
        "shape 0: not enough",
    ),
    "labelme: a mask beyond": (labelme(shape("mask", (60, 40), (70, 50), mask="")), "shape 0: "),
    "labelme: an image of 10^18 pixels": (
        labelme(shape("mask", (0, 0), (1, 1), mask=""), imageHeight=10**9, imageWidth=10**9),
        "shape 0: ",
    ),
    "labelme: shapes that are none": (labelme("shape"), "shape 0: "),  # type: ignore[arg-type]
    "Label Studio: turned image": (studio(result("rectanglelabels", **PERCENT) | {"image_rotation": 90}), "was turned"),
    "Label Studio: half a value": (studio(result("rectanglelabels", x=1)), "task 7 result r: it has no 'y'"),
    "Label Studio: a brush of one number": (studio(result("brushlabels", rle=10**12)), "task 7 result r: "),
    "Label Studio: a brush cut short": (studio(result("brushlabels", rle=[0, 0, 48, 0])), "are cut short"),
    "Label Studio: another image's brush": (studio(result("brushlabels", rle=[0, 0, 0, 4, 57])), "make 4 values"),
    "Label Studio: two sizes": (
        studio(result("rectanglelabels", **PERCENT), result("rectanglelabels", **PERCENT) | {"original_width": 9}),
        "several sizes",
    ),
    "CVAT: unknown label": (cvat(CAT.replace("cat", "cow")), "its label 'cow' is none of the file's dog, cat"),
    "CVAT: video": (cvat(more="<track/>"), '"CVAT for video"'),
    "CVAT: a mask beyond": (
        cvat('<mask label="cat" rle="0, 4" left="63" top="0" width="2" height="2"/>'),
        "reaches beyond",
    ),
    "CVAT: runs of another size": (
        cvat('<mask label="cat" rle="0, 5" left="0" top="0" width="2" height="2"/>'),
        "5 pixels",
    ),
    "CVAT: not a number": (cvat(CAT.replace('"8"', '"x"')), r"image 'a\.png' box 0: could not convert"),
    "CVAT: entities": (
        {"annotations.xml": "<!DOCTYPE a><annotations/>"},
        "DOCTYPE",
    ),
}


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_broken_is_named(files: Files, message: str, tmp_path: Path) -> None:
    lay(tmp_path, files, ("images/a.png",))
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


TAKEN: dict[str, tuple[Files, list[tuple[str, list[float]]], str]] = {
    "a box a little beyond": (yolo("1 0.5 0.5 1.001 1.0"), [("dog", [-0.032, 0, 64.032, 48])], ""),
    "an empty file": (yolo(), [], ""),
    "no file": (yolo(labels__a_txt="none"), [], "1 images without a label file are taken as images without objects"),
    "a file without an image": (yolo(labels__b_txt="0 0.5 0.5 0.5 0.5"), [], "1 label files without an image"),
    "key points": (
        yolo("0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.3 0.3 1", names="[cat]\nkpt_shape: [2, 3]"),
        [("cat", [16, 12, 48, 36])],
        "1 objects with key points",
    ),
    "names as a dictionary": (
        yolo("10 0.5 0.5 0.5 0.5", names=str({i: f"c{i}" for i in range(11)})),
        [("c10", [16, 12, 48, 36])],
        "",
    ),
    "a byte order mark": (
        {**yolo(), "labels/a.txt": "\ufeff0 0.5 0.5 0.5 0.5\r\n\r\n"},
        [("cat", [16, 12, 48, 36])],
        "",
    ),
    "VOC: from 1": (voc(box()), [("cat", [10, 5, 30, 40])], ""),
    "VOC: from 0": (
        voc(box(), box(sides="0 0 9 9")),
        [("cat", [11, 6, 30, 40]), ("cat", [0, 0, 9, 9])],
        "count pixels from 0",
    ),
    "VOC: fractions": (voc(box(sides="11.5 6.25 30.5 40")), [("cat", [10.5, 5.25, 30.5, 40])], ""),
    "VOC: size 0": (voc(box(), size="<size><width>0</width><height>0</height></size>"), [("cat", [10, 5, 30, 40])], ""),
    "VOC: no size": (voc(box(), size=""), [("cat", [10, 5, 30, 40])], ""),
    "labelme: corners the other way": (labelme(shape("rectangle", (30, 40), (10, 5))), [("cat", [10, 5, 30, 40])], ""),
    "labelme: a circle": (labelme(shape("circle", (32, 24), (42, 24))), [("cat", [22, 14, 42, 34])], ""),
    "labelme: a point": (
        labelme(shape("rectangle", (10, 5), (30, 40)), shape("point", (3, 3)), shape("point", (4, 4))),
        [("cat", [10, 5, 30, 40])],
        "2 shapes of the type 'point' left out",
    ),
    "labelme: a group": (
        labelme(
            shape("polygon", (1, 1), (9, 1), (9, 9), group=1),
            shape("polygon", (20, 20), (30, 20), (30, 30), group=1),
            shape("polygon", (2, 2), (8, 2), (8, 8), label="dog", group=1),
        ),
        [("cat", [1, 1, 30, 30]), ("dog", [2, 2, 8, 8])],
        "",
    ),
    "labelme: another machine's path": (
        labelme(shape("rectangle", (10, 5), (30, 40)), imagePath="C:\\data\\images\\a.png"),
        [("cat", [10, 5, 30, 40])],
        "",
    ),
    "Label Studio: percentages": (studio(result("rectanglelabels", **PERCENT)), [("cat", [8, 12, 24, 36])], ""),
    "Label Studio: a local file": (
        studio(result("rectanglelabels", **PERCENT), image="/data/local-files/?d=some/a.png"),
        [("cat", [8, 12, 24, 36])],
        "",
    ),
    "Label Studio: a turned box": (
        studio(result("rectanglelabels", **(PERCENT | {"x": 50, "rotation": 90}))),
        [("cat", [8, 12, 32, 28])],
        "1 boxes that are turned",
    ),
    "Label Studio: an ellipse": (
        studio(result("ellipselabels", x=50, y=50, radiusX=25, radiusY=25)),
        [("cat", [16, 12, 48, 36])],
        "",
    ),
    "Label Studio: labels apart": (
        studio(
            {**result("rectangle", **PERCENT), "value": PERCENT},
            result("labels") | {"value": PERCENT | {"labels": ["cat"]}},
        ),
        [("cat", [8, 12, 24, 36])],
        "",
    ),
    "Label Studio: key points": (
        studio(result("rectanglelabels", **PERCENT), result("keypointlabels", x=1, y=1)),
        [("cat", [8, 12, 24, 36])],
        "1 results of the type 'keypointlabels' left out",
    ),
    "CVAT: a box": (cvat(CAT), [("cat", [8, 12, 24, 36])], ""),
    "CVAT: a turned box": (
        cvat(CAT.replace("/>", ' rotation="90.0"/>')),
        [("cat", [4, 16, 28, 32])],
        "1 boxes that are turned",
    ),
    "CVAT: a mask": (
        cvat('<mask label="cat" rle="1, 2, 3, 2" left="8" top="12" width="4" height="2"/>'),
        [("cat", [9, 12, 12, 14])],
        "",
    ),
    "CVAT: a line": (
        cvat(CAT, '<polyline label="cat" points="1,1;2,2"/>'),
        [("cat", [8, 12, 24, 36])],
        "'polyline' left out",
    ),
}


@pytest.mark.parametrize(("files", "expected", "said"), TAKEN.values(), ids=TAKEN)
def test_what_can_be_understood_is_taken_and_said(
    files: Files, expected: list[tuple[str, list[float]]], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay(tmp_path, files, ("images/a.png",))
    with caplog.at_level(logging.WARNING):
        assert boxes(opened(tmp_path)) == expected
    assert said in caplog.text
    assert said or not [line for line in caplog.messages if "no mask" not in line]


def test_a_yolo_image_that_cannot_be_read_is_one_images_problem(tmp_path: Path) -> None:
    lay(tmp_path, yolo("0 0.5 0.5 0.5 0.5", labels__b_txt="1 0.5 0.5 0.5 0.5"), ("images/a.png", "images/b.png"))
    (tmp_path / "images" / "b.png").write_bytes(b"no picture")
    data = DetectionSource(kind="folder", root=str(tmp_path), box_masks=True, val_fraction=0).open(
        "train", training=True
    )
    assert len(data) == 2 and len(data[0]) == 1
    with pytest.raises(ImageError, match=r"b\.png holds text"):
        data[1]


@pytest.mark.parametrize("turned", [1, 6])
def test_a_yolo_box_is_a_share_of_the_upright_photo(turned: int, tmp_path: Path) -> None:
    lay(tmp_path, yolo("0 0.25 0.5 0.5 1.0"), ())
    exif = Image.Exif()
    exif[0x0112] = turned
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "a.jpg", exif=exif)
    wide, high = (64, 48) if turned == 1 else (48, 64)
    assert boxes(opened(tmp_path)) == [("cat", [0, 0, wide / 2, high])]


@pytest.mark.parametrize("difficult", [0, 1])
def test_vocs_difficult_objects_are_no_examples(
    difficult: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay(tmp_path, voc(box(), box("dog", more=f"<difficult>{difficult}</difficult>")), ("JPEGImages/a.png",))
    assert opened(tmp_path)[0].crowd.tolist() == [False, bool(difficult)]
    assert ("1 objects marked difficult" in caplog.text) == bool(difficult)


def test_vocs_masks_are_its_objects_by_number(tmp_path: Path) -> None:
    lay(tmp_path, voc(box(), box("dog", "31 1 64 48"), box("cow", "1 1 5 5")), ("JPEGImages/a.png",))
    numbers = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    numbers[8:20, 12:28], numbers[2:40, 40:60], numbers[0, :] = 1, 2, 255
    (tmp_path / "SegmentationObject").mkdir()
    Image.fromarray(numbers).save(tmp_path / "SegmentationObject" / "a.png")
    masks = opened(tmp_path)[0].masks
    np.testing.assert_array_equal(masks[:2], [numbers == 1, numbers == 2])
    assert masks[2].sum() == 25, "an object without a pixel there has its box"


def test_voc_is_torchvisions(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    random = np.random.default_rng(0)
    names = [f"2008_{number:06d}" for number in range(6)]
    for name in names:
        low, high = random.integers(1, 20, (3, 2)), random.integers(21, 48, (3, 2))
        sides = [f"{x} {y} {right} {bottom}" for (x, y), (right, bottom) in zip(low, high, strict=True)]
        lay(
            root,
            {
                f"Annotations/{name}.xml": voc(*(box(f"c{i}", side) for i, side in enumerate(sides)))[
                    "Annotations/a.xml"
                ]
            },
            (),
        )
        lay(root, {}, (f"JPEGImages/{name}.jpg",))
    lay(root, {"ImageSets/Main/train.txt": "\n".join(names[:4]), "ImageSets/Main/val.txt": "\n".join(names[4:])}, ())
    for split in ("train", "val"):
        peer = VOCDetection(str(tmp_path), image_set=split)
        data = DetectionSource(kind="voc", root=str(root), box_masks=True).open(split)  # type: ignore[arg-type]
        assert len(data) == len(peer) > 0
        for index in range(len(peer)):
            with peer[index][0]:
                objects = peer[index][1]["annotation"]["object"]
            wanted = [[float(one["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for one in objects]
            np.testing.assert_array_equal(data[index].boxes_xyxy, np.array(wanted) - [1, 1, 0, 0])
            assert [data.classes[label] for label in data[index].labels] == [one["name"] for one in objects]


def test_labelmes_masks_are_a_png_of_their_box(tmp_path: Path) -> None:
    part = np.random.default_rng(0).random((11, 21)) < 0.5
    part[0, 0] = part[-1, -1] = True
    file = io.BytesIO()
    Image.fromarray(part).save(file, format="PNG")
    text = base64.b64encode(file.getvalue()).decode()
    lay(tmp_path, labelme(shape("mask", (8, 12), (28, 22), mask=text)))
    sample = opened(tmp_path)[0]
    assert sample.boxes_xyxy.tolist() == [[8, 12, 29, 23]]
    np.testing.assert_array_equal(sample.masks[0, 12:23, 8:29], part)
    assert sample.masks.sum() == part.sum()


def encode_brush(values: np.ndarray, pieces: list[int]) -> list[int]:
    """`values` in pieces of these lengths, each as a run where it is one value, else value by value."""
    bits = f"{len(values):032b}" + f"{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    start = 0
    for length in pieces:
        piece = values[start : start + length].tolist()
        kind = next(place for place, size in enumerate((3, 4, 8, 16)) if length <= 1 << size)
        bits += ("1" if len({*piece}) == 1 else "0") + f"{kind:02b}" + f"{length - 1:0{(3, 4, 8, 16)[kind]}b}"
        bits += "".join(f"{value:08b}" for value in (piece[:1] if len({*piece}) == 1 else piece))
        start += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


@settings(max_examples=50, deadline=None)
@given(data=st.data(), height=st.integers(1, 6), width=st.integers(1, 6))
def test_label_studios_brush(data: st.DataObject, height: int, width: int) -> None:
    alpha = np.array(data.draw(st.lists(st.sampled_from([0, 255]), min_size=height * width, max_size=height * width)))
    values = np.stack([alpha * 0 + 7, alpha * 0, alpha * 0 + 9, alpha], axis=-1).ravel()
    pieces, rest = [], len(values)
    while rest:
        pieces.append(data.draw(st.integers(1, min(rest, 40))))
        rest -= pieces[-1]
    mask = decode_brush(encode_brush(values, pieces), (height, width))
    np.testing.assert_array_equal(mask, alpha.reshape(height, width) > 0)


@settings(max_examples=60, deadline=None)
@given(numbers=st.lists(st.integers(0, 255), max_size=40))
def test_a_brush_of_any_bytes_is_read_or_refused(numbers: list[int]) -> None:
    size = (2, 3)
    with contextlib.suppress(ValueError):
        assert decode_brush([0, 0, 0, 24, *numbers], size).shape == size


OUTSIDE: dict[str, Callable[[str], Files]] = {
    "YOLO": lambda path: yolo(names=f"[cat]\ntrain: {path.replace('/b.png', '')}"),
    "labelme": lambda path: labelme(shape("rectangle", (1, 2), (30, 40)), imagePath=path),
    "CVAT": lambda path: cvat(CAT, image=f'id="0" name="{path}" width="64" height="48"'),
    "Label Studio": lambda path: studio(result("rectanglelabels", **PERCENT), image=path),
}


@pytest.mark.parametrize("files", OUTSIDE.values(), ids=OUTSIDE)
def test_a_path_that_leads_out_of_the_folder_is_refused_unless_asked_for(
    files: Callable[[str], Files], tmp_path: Path
) -> None:
    lay(tmp_path, {}, ("outside/b.png",))
    root = lay(tmp_path / "root", files("../outside/b.png"), ())
    with pytest.raises(DataError, match=r"lead out of the images' folder|renamed"):
        opened(root)
    assert len(opened(root, allow_outside=True)) == 1


AMBIGUOUS: dict[str, tuple[Files, str]] = {
    "YOLO and VOC": (yolo("0 0.5 0.5 0.5 0.5") | voc(box()), "yolo, voc"),
    "CVAT and labelme": (cvat(CAT) | labelme(shape("rectangle", (8, 12), (24, 36))), "labelme, cvat"),
}


@pytest.mark.parametrize(("files", "could"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_folder_of_two_layouts_is_refused_until_one_is_named(files: Files, could: str, tmp_path: Path) -> None:
    lay(tmp_path, files, ("images/a.png",))
    with pytest.raises(DataError, match=f"several ways: {could}; say which with --data.kind {could.split(', ')[0]} or"):
        opened(tmp_path)
    for kind in could.split(", "):
        assert len(opened(tmp_path, kind)) == 1  # type: ignore[arg-type]


def test_two_images_of_one_name_are_told_apart_by_their_folder_or_refused(tmp_path: Path) -> None:
    image = 'id="{}" name="{}" width="64" height="48"'
    files = cvat(CAT, image=image.format(0, "x/a.png"), more=f"<image {image.format(1, 'y/a.png')}/>")
    lay(tmp_path, files, ("images/x/a.png", "images/y/a.png"))
    assert [path.parent.name for path in opened(tmp_path).paths] == ["x", "y"]
    lay(tmp_path, cvat(CAT), ())
    with pytest.raises(DataError, match="could be .*; rename one"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("choice", "classes", "left_out"),
    [
        (["dog"], ("dog",), "cat 2, cow 1"),
        ({"pet": ["cat", "dog"]}, ("pet",), "cow 1"),
        ({"pet": ["cat", "dog"], "farm": ["*"]}, ("pet", "farm"), ""),
    ],
)
def test_classes_are_chosen_and_merged(choice, classes, left_out: str, tmp_path: Path, caplog) -> None:
    lay(tmp_path, voc(box(), box("dog", "1 1 9 9"), box(), box("cow", "1 1 9 9")), ("JPEGImages/a.png",))
    data = opened(tmp_path, choice=choice)
    assert data.classes == classes
    assert len(data[0]) == 4 - sum(int(one.split()[1]) for one in left_out.split(", ") if one)
    assert (f"as data.classes has not their class: {left_out}" in caplog.text) == bool(left_out)
    names = {one["name"] for one in data.coco()["categories"]}
    assert names == {*classes}, "what is evaluated has the same"


def test_files_beyond_any_size_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, voc(box()), ("JPEGImages/a.png",))
    os.truncate(tmp_path / "Annotations" / "a.xml", (1 << 28) + 1)
    with pytest.raises(DataError, match="has more than 268,435,456 bytes"):
        opened(tmp_path)
