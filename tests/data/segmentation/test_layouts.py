"""Label maps in the layouts of Pascal VOC, Cityscapes, CVAT, labelme and Roboflow, and with endings of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import Cityscapes, VOCSegmentation

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.segmentation.dataset import SegmentationFolder, open_segmentation
from swin_transformer_pytorch.data.segmentation.known import cityscapes_classes, cityscapes_values, voc_classes
from swin_transformer_pytorch.data.segmentation.label_counts import check_labels
from swin_transformer_pytorch.data.segmentation.source import SegmentationSource

NAMES = {"train": ("a", "b", "c"), "val": ("d", "e")}
CLASSES = "background cat dog"
VALUES = np.array([[0, 1, 2, 255], [2, 2, 1, 0]], dtype=np.uint8)
PALETTE = ((0, 0, 0), (128, 0, 0), (0, 128, 0))


def put(path: Path, pixels: object, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(pixels, dtype=np.uint8))
    if palette:
        image.putpalette([part for label in range(256) for part in (label * 40 % 256, label, 0)])
    image.save(path)


def photo(path: Path) -> None:
    put(path, np.full((*VALUES.shape, 3), 90))


def listed(root: Path, where: str = "ImageSets/Segmentation") -> None:
    (root / where).mkdir(parents=True)
    for split, names in NAMES.items():
        (root / where / f"{split}.txt").write_text("\n".join(names))


def write_cvat(root: Path) -> None:
    colours = np.array([*PALETTE], dtype=np.uint8)
    for name in "abcde":
        photo(root / "JPEGImages" / f"{name}.png")
        put(root / "SegmentationClass" / f"{name}.png", colours[np.where(VALUES == 255, 0, VALUES)])
    text = [f"{name}:{','.join(map(str, colour))}::" for name, colour in zip(CLASSES.split(), PALETTE, strict=True)]
    (root / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *text]))
    listed(root)


def write_labelme(root: Path) -> None:
    for name in "abcde":
        photo(root / "JPEGImages" / f"{name}.jpg")
        put(root / "SegmentationClassPNG" / f"{name}.png", VALUES, palette=True)
    (root / "SegmentationClass").mkdir()
    (root / "class_names.txt").write_text(CLASSES.replace(" ", "\n"))
    listed(root)


def write_roboflow(root: Path) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        for name in NAMES[split]:
            photo(root / folder / f"{name}_jpg.rf.0.jpg")
            put(root / folder / f"{name}_jpg.rf.0_mask.png", VALUES)
        rows = [f" {value}, {name}" for value, name in enumerate(CLASSES.split())]
        (root / folder / "_classes.csv").write_text("\n".join(["Pixel Value, Class", *rows]))


@pytest.mark.parametrize(
    ("images", "labels"), [("images/{}", "labels/{}"), ("{}/images", "{}/masks"), ("{}", "labels/{}")]
)
@pytest.mark.parametrize("called", ["test", "testing"])
def test_a_part_for_tests_is_opened_where_there_is_one(images: str, labels: str, called: str, tmp_path: Path) -> None:
    source = SegmentationSource(kind="folder", root=str(tmp_path))
    (tmp_path / "classes.txt").write_text(CLASSES.replace(" ", "\n"))
    for part, names in (("train", "abcdef"), (called, "xy")):
        for name in names:
            if part == called and name == "x":
                with pytest.raises(DataError, match="no images with label maps for 'test'; looked for"):
                    source.open("test")
            photo(tmp_path / images.format(part) / f"{name}.png")
            put(tmp_path / labels.format(part) / f"{name}.png", VALUES)
    assert source.open("test").names == ("x", "y")
    assert len(source.open("train")) + len(source.open("val")) == 6


def test_voc_has_a_part_for_tests_where_it_has_a_list(tmp_path: Path) -> None:
    write_cvat(tmp_path)
    source = SegmentationSource(kind="voc", root=str(tmp_path))
    with pytest.raises(DataError, match=r"no list of images for 'test': write .*ImageSets/Segmentation/test\.txt"):
        source.open("test")
    (tmp_path / "ImageSets/Segmentation/test.txt").write_text("e\n")
    assert source.open("test").names == ("e",)


def write_ending(images: str, labels: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for split, names in NAMES.items():
            for name in names:
                photo(root / images.format(split, name))
                put(root / labels.format(split, name), VALUES)
        (root / "classes.txt").write_text(CLASSES.replace(" ", "\n"))

    return write


WRITERS = {
    "CVAT": write_cvat,
    "labelme": write_labelme,
    "Roboflow": write_roboflow,
    "masks of another name": write_ending("images/{}/{}.jpg", "masks/{}/{}_labels.png"),
    "masks beside images": write_ending("{}/{}.png", "{}/{}_mask.png"),
    "VOC's endings": write_ending("{}/images/{}.png", "{}/masks/{}.seg.png"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_layout_gives_the_same_labels(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    for split, names in NAMES.items():
        data = SegmentationSource(kind="folder", root=str(tmp_path)).open(split)  # type: ignore[arg-type]
        assert data.classes == tuple(CLASSES.split())
        assert [name.partition("_")[0] for name in data.names] == [*names]
        for index in range(len(data)):
            expected = np.where(VALUES == 255, 0, VALUES) if write is write_cvat else VALUES
            np.testing.assert_array_equal(data[index].labels, expected)


def test_pascal_voc_is_torchvisions(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in "abcdefg":  # of f and g there is no label map
        photo(root / "JPEGImages" / f"{name}.jpg")
        if name < "f":
            put(root / "SegmentationClass" / f"{name}.png", np.where(VALUES == 255, 255, VALUES % 3 * 10), palette=True)
    listed(root)
    for split in ("train", "val"):
        peer = VOCSegmentation(str(tmp_path), image_set=split)
        data = open_segmentation(root, split)
        assert "taken for voc" in data.guess and data.classes == voc_classes().names
        assert len(data) == len(peer) > 0
        for index, path in enumerate(peer.masks):
            with Image.open(path) as target:
                np.testing.assert_array_equal(data[index].labels, np.array(target))
    assert open_segmentation(root, "train", kind="voc").guess == ""


@pytest.mark.parametrize("made", [False, True], ids=["labelIds", "labelTrainIds"])
def test_cityscapes_is_torchvisions(made: bool, tmp_path: Path) -> None:
    values = np.arange(34, dtype=np.uint8).reshape(2, 17)
    for split, city in (("train", "aachen"), ("val", "ulm")):
        stem = f"{city}_000000_000019"
        put(tmp_path / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", np.zeros((2, 17, 3)))
        for kind in ("color", "instanceIds", "labelIds"):
            put(tmp_path / "gtFine" / split / city / f"{stem}_gtFine_{kind}.png", values)
        if made:
            train_ids = np.array(cityscapes_values(), dtype=np.uint8)[values]
            put(tmp_path / "gtFine" / split / city / f"{stem}_gtFine_labelTrainIds.png", train_ids)
        (tmp_path / "gtFine" / split / city / f"{stem}_gtFine_polygons.json").write_text("{}")
        data = open_segmentation(tmp_path, split)  # type: ignore[arg-type]
        peer = Cityscapes(str(tmp_path), split=split, target_type="semantic")
        wanted = {one.id: one.train_id if 0 <= one.train_id < 255 else 255 for one in Cityscapes.classes}
        expected = [[wanted[value] for value in row] for row in np.array(peer[0][1]).tolist()]
        np.testing.assert_array_equal(data[0].labels, expected)
        assert data[0].labels.max() == 255 and len(data) == 1
    train = sorted((one for one in Cityscapes.classes if 0 <= one.train_id < 255), key=lambda one: one.train_id)
    assert cityscapes_classes().names == tuple(one.name for one in train)
    assert cityscapes_classes().palette == tuple(one.color for one in train)


def test_vocs_colours_are_those_of_its_files() -> None:
    assert voc_classes().palette is not None
    assert voc_classes().palette[:5] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))  # type: ignore[index]
    assert voc_classes().palette[20] == (0, 64, 128)  # type: ignore[index]


def test_several_endings_are_refused_until_one_is_named(tmp_path: Path) -> None:
    write_ending("images/{}/{}.jpg", "masks/{}/{}_mask.png")(tmp_path)
    for split, names in NAMES.items():
        for name in names:
            put(tmp_path / "masks" / split / f"{name}_colours.png", VALUES * 0)
    with pytest.raises(DataError, match=r"end in _colours, _mask; say which with --data\.label_suffix"):
        open_segmentation(tmp_path, "train")
    data = SegmentationSource(kind="folder", root=str(tmp_path), label_suffix="_mask").open("val")
    np.testing.assert_array_equal(data[1].labels, VALUES)


def test_a_folder_of_two_layouts_is_refused_until_one_is_named(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    write_ending("images/{}/{}.jpg", "masks/{}/{}.png")(tmp_path)
    with pytest.raises(DataError, match="several ways: voc, folder; say which with --data.kind voc, or name"):
        open_segmentation(tmp_path, "train")
    assert "JPEGImages" in SegmentationSource(kind="voc", root=str(tmp_path)).open("train").pairs[0][0]


def test_listed_images_that_are_not_there_are_named(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match="lacks images that are listed: b;"):
        open_segmentation(tmp_path, "train")


@pytest.mark.parametrize(
    ("choice", "names", "table", "said"),
    [
        (["dog", "cat"], ("dog", "cat"), {0: 255, 1: 1, 2: 0}, "ignored: background"),
        ({"animal": ["cat", "dog"], "none": ["background"]}, ("animal", "none"), {0: 1, 1: 0, 2: 0}, ""),
        ({"dog": ["dog"], "other": ["*"]}, ("dog", "other"), {0: 1, 1: 1, 2: 0}, ""),
    ],
)
def test_classes_are_chosen_and_merged(tmp_path: Path, choice, names, table, said: str, caplog) -> None:
    write_labelme(tmp_path)
    data = SegmentationSource(kind="folder", root=str(tmp_path), choice=choice).open("train")
    assert isinstance(data, SegmentationFolder) and data.classes == names
    np.testing.assert_array_equal(data[0].labels, np.vectorize({**table, 255: 255}.get)(VALUES))
    check_labels(data, "train")
    assert said in caplog.text


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (["dgo"], "names 'dgo', and .* has background, cat, dog; did you mean 'dog'"),
        ({"a": ["dog"], "b": ["dog"]}, "has the class 'dog' twice"),
        (["dog", "dog"], "names a class twice"),
        ([], "names none"),
        ({"a": ["*"], "b": ["*"]}, "leaves nothing for b"),
    ],
)
def test_a_choice_that_cannot_be_is_named(tmp_path: Path, choice, message: str) -> None:
    write_labelme(tmp_path)
    with pytest.raises(DataError, match=message):
        SegmentationSource(kind="folder", root=str(tmp_path), choice=choice).open("train")
