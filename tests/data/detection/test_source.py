"""One description of images with objects: each kind opens, and its fields reach the data set."""

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.detection.coco import CocoDataset
from swin_transformer_pytorch.data.detection.folders import find_coco
from swin_transformer_pytorch.data.detection.source import DetectionSource
from swin_transformer_pytorch.data.errors import DataError, ImageError
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.scenes.files import write_scenes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four scenes for training, the first without any annotation, and two for validation."""
    root = tmp_path / "coco"
    for split, number in (("train", 4), ("val", 2)):
        scenes = open_scenes("scenes_sample", split, num_scenes=number, image_size=(64, 64))  # type: ignore[arg-type]
        write_scenes(scenes, root, split)
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    empty = content["images"][0]["id"]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != empty]
    path.write_text(json.dumps(content))
    shutil.copytree(root / "labels" / "train", root / "stuffthingmaps" / "train")
    return root


def test_a_coco_folder(folder: Path) -> None:
    source = DetectionSource(root=str(folder))
    assert [len(source.open(split)) for split in ("train", "val")] == [4, 2]
    assert len(source.open("train", training=True)) == 3, "nothing is learnt from an image without annotation"
    names = ("Bag", "Coat")
    assert dataclasses.replace(source, classes=names).open("val").classes == names


def test_parts_by_name(folder: Path, tmp_path: Path) -> None:
    # The two parts the other way round, and no root at all.
    source = DetectionSource(train=find_coco(folder, "val"), val=find_coco(folder, "train"))
    assert [len(source.open(split)) for split in ("train", "val")] == [2, 4]
    assert source.folder("train").images_folder == folder / "val"


def test_maps_of_stuff_are_for_training_alone(folder: Path, tmp_path: Path) -> None:
    source = DetectionSource(root=str(folder), stuff=True)
    assert source.open("train")[0].semantic is None
    labels = source.open("train", training=True)[0].semantic
    assert labels is not None and labels.shape == (64, 64)
    shutil.move(folder / "stuffthingmaps" / "train", tmp_path / "maps")
    elsewhere = dataclasses.replace(source, stuff_folder=str(tmp_path / "maps"))
    np.testing.assert_array_equal(elsewhere.open("train", training=True)[0].semantic, labels)
    assert dataclasses.replace(elsewhere, stuff=False).open("train", training=True)[0].semantic is None


def test_boxes_for_masks(folder: Path) -> None:
    path = folder / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no segmentation"):
        DetectionSource(root=str(folder)).open("val")
    dataset = DetectionSource(root=str(folder), box_masks=True).open("val")
    assert isinstance(dataset, CocoDataset)
    assert dataset[0].masks.any()


def test_scenes_of_the_package_and_of_files(fashion_folder: Path) -> None:
    sample = DetectionSource(kind="scenes_sample", num_scenes=3, num_val_scenes=2, scene_size=(64, 96), seed=4)
    for source in (sample, dataclasses.replace(sample, kind="scenes", root=str(fashion_folder))):
        train, val = source.open("train", training=True), source.open("val")
        assert (len(train), len(val)) == (3, 2)
        assert train[0].image.size == (96, 64)
    other = dataclasses.replace(sample, seed=5).open("train")
    assert np.asarray(other[0].image).tobytes() != np.asarray(sample.open("train")[0].image).tobytes()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no COCO annotations"):
        DetectionSource(root=str(tmp_path)).open("train")
    with pytest.raises(DataError, match="train-images"):
        DetectionSource(kind="scenes", root=str(tmp_path)).open("train")


def test_a_limit_of_pixels_is_for_images_and_maps_of_stuff_in_any_process(folder: Path) -> None:
    source = DetectionSource(root=str(folder), stuff=True, max_pixels=64 * 64)
    Image.new("L", (64, 65)).save(folder / "stuffthingmaps" / "train" / "000001.png")
    for limited in (source, dataclasses.replace(source, max_pixels=4095)):
        dataset = pickle.loads(pickle.dumps(limited.open("train", training=True)))  # noqa: S301
        with pytest.raises(ImageError, match=f"more than {limited.max_pixels:,}"):
            dataset[0]
    assert pickle.loads(pickle.dumps(source.open("train")))[0].image.size == (64, 64)  # noqa: S301


def test_names_that_lead_out_of_the_folder(folder: Path) -> None:
    path = folder / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = f"../val/{image['file_name']}"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"--data\.allow_outside true"):
        DetectionSource(root=str(folder)).open("val")
    assert len(DetectionSource(root=str(folder), allow_outside=True).open("val")) == 2
