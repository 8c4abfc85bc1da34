"""One description of images with label maps: each kind opens, and its fields reach the data set."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.errors import DataError, ImageError
from swin_transformer_pytorch.data.segmentation.source import SegmentationKind, SegmentationSource

CLASSES = ("road", "sky", "tree")


def fill(images: Path, labels: Path, count: int, values: object) -> tuple[str, str]:
    """Images of 4 x 2 pixels with a label map of these values each."""
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", (4, 2)).save(images / f"{index}.png")
        Image.fromarray(np.array(values, dtype=np.uint8)).save(labels / f"{index}.png")
    return str(images), str(labels)


VALUES = [[0, 1, 2, 7], [0, 1, 2, 255]]


def test_a_folder(tmp_path: Path) -> None:
    fill(tmp_path / "images", tmp_path / "labels", 10, VALUES)
    source = SegmentationSource(kind="folder", root=str(tmp_path), classes=CLASSES, ignore_label=7, val_fraction=0.3)
    train, val = source.open("train"), source.open("val")
    assert (len(train), len(val)) == (7, 3)
    assert train.classes == CLASSES
    assert train[0].labels.tolist() == [[0, 1, 2, 255], [0, 1, 2, 255]]
    names = {dataclasses.replace(source, seed=seed).open("val")[0].name for seed in range(8)}
    assert len(names) > 1


def test_parts_by_name(tmp_path: Path) -> None:
    parts = {
        name: fill(tmp_path / f"{name} images", tmp_path / f"{name} maps", count, VALUES)
        for name, count in (("train", 2), ("val", 1))
    }
    source = SegmentationSource(kind="folder", **parts, classes=CLASSES, ignore_label=7)
    assert [len(source.open(split)) for split in ("train", "val")] == [2, 1]
    assert source.open("val")[0].labels.max() == 255
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    assert dataclasses.replace(source, palette=colours).open("val").palette == colours


@pytest.mark.parametrize("named", [False, True])
def test_ade20k(named: bool, tmp_path: Path) -> None:
    folders = [
        fill(tmp_path / "images" / name, tmp_path / "annotations" / name, 1, [[0, 1, 150, 2]] * 2)
        for name in ("training", "validation")
    ]
    if named:
        source = SegmentationSource(train=folders[0], val=folders[1])
    else:
        source = SegmentationSource(root=str(tmp_path))
    for split in ("train", "val"):
        dataset = source.open(split)  # type: ignore[arg-type]
        assert len(dataset.classes) == 150
        assert dataset[0].labels.tolist() == [[255, 0, 149, 1]] * 2


@pytest.mark.parametrize("place", ["root", "train"])
def test_ade20k_takes_no_other_classes(place: str, tmp_path: Path) -> None:
    folders = fill(tmp_path / "images", tmp_path / "annotations", 2, VALUES)
    source = SegmentationSource(classes=CLASSES, **{place: str(tmp_path) if place == "root" else folders})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="does not go with data.kind='ade20k'"):
        source.open("train")
    own = dataclasses.replace(source, kind="folder", ignore_label=7).open("train")
    assert own.classes == CLASSES


@pytest.mark.parametrize("kind", ["ade20k", "folder"])
def test_the_kind_decides_what_is_ade20k(kind: SegmentationKind, tmp_path: Path) -> None:
    fill(tmp_path / "images" / "train", tmp_path / "labels" / "train", 2, [[0, 1, 150, 2]] * 2)
    source = SegmentationSource(kind=kind, root=str(tmp_path))
    if kind == "ade20k":
        assert source.open("train")[0].labels.tolist() == [[255, 0, 149, 1]] * 2
    else:
        with pytest.raises(DataError, match="classes of the label maps .* are not known"):
            source.open("train")


def test_scenes_of_the_package_and_of_files(fashion_folder: Path) -> None:
    sample = SegmentationSource(kind="scenes_sample", num_scenes=3, num_val_scenes=2, scene_size=(64, 96))
    for source in (sample, dataclasses.replace(sample, kind="scenes", root=str(fashion_folder))):
        train, val = source.open("train"), source.open("val")
        assert (len(train), len(val)) == (3, 2)
        assert train[0].labels.shape == (64, 96)
        assert train.classes[-1] == "ground"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="looked for"):
        SegmentationSource(root=str(tmp_path)).open("train")
    with pytest.raises(DataError, match="train-images"):
        SegmentationSource(kind="scenes", root=str(tmp_path)).open("train")


@pytest.mark.parametrize("kind", ["root", "parts", "ade20k", "ade20k parts"])
def test_a_limit_of_pixels_is_for_images_and_label_maps_in_any_process(kind: str, tmp_path: Path) -> None:
    pairs = [
        fill(tmp_path / "images" / name, tmp_path / "annotations" / name, 2, [[1, 1, 1, 1]] * 2)
        for name in ("training", "validation")
    ]
    Image.new("L", (4, 3)).save(tmp_path / "annotations" / "training" / "1.png")
    where = {"train": pairs[0]} if "parts" in kind else {"root": str(tmp_path)}
    own = {} if "ade20k" in kind else {"classes": CLASSES, "kind": "folder"}
    source = SegmentationSource(**where, **own, max_pixels=8)  # type: ignore[arg-type]
    dataset = pickle.loads(pickle.dumps(source.open("train")))  # noqa: S301
    assert dataset[0].image.size == (4, 2)
    with pytest.raises(ImageError, match=r"label map .*1\.png has 4 x 3 pixels, more than 8"):
        dataset[1]
    dataset = pickle.loads(pickle.dumps(dataclasses.replace(source, max_pixels=7).open("train")))  # noqa: S301
    with pytest.raises(ImageError, match=r"^.*images/training/0\.png has 4 x 2 pixels, more than 7"):
        dataset[0]
