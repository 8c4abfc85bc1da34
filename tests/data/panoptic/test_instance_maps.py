"""A person's own folders of label and instance PNGs."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.errors import DataError, ImageError, NothingFoundError, SampleError
from swin_transformer_pytorch.data.panoptic.dataset import PanopticDataset
from swin_transformer_pytorch.data.panoptic.instance_maps import InstanceMaps
from swin_transformer_pytorch.data.panoptic.layouts import InstanceMapFolders, find_instance_maps, recognised
from swin_transformer_pytorch.data.panoptic.source import PanopticSource

CLASSES = "250 0 0 car\n0 250 0 truck\n0 0 250 road\n9 9 9 sky\n"
LABELS = np.array([[0, 0, 1, 3, 255], [0, 2, 1, 3, 2]], dtype=np.uint8)
NUMBERS = np.array([[7, 300, 9, 0, 7], [0, 0, 9, 0, 0]])


def fill(
    root: Path,
    part: str = "",
    *,
    names: tuple[str, ...] = ("a",),
    labels: np.ndarray[Any, Any] = LABELS,
    numbers: np.ndarray[Any, Any] = NUMBERS,
    classes: str | None = CLASSES,
    things: str | None = None,
) -> Path:
    """Images, label maps and instance maps, the latter of 16 bits where they need them, and files of names."""
    for name in names:
        for folder, pixels in (
            ("images", np.zeros((*labels.shape, 3), dtype=np.uint8)),
            ("labels", labels),
            ("instances", numbers.astype(np.uint16 if numbers.max(initial=0) > 255 else np.uint8)),
        ):
            path = root / folder / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    for file, text in (("classes.txt", classes), ("things.txt", things)):
        if text is not None:
            (root / file).write_text(text)
    return root


def opened(root: Path, split: Any = "train", **options: Any) -> InstanceMaps:
    data = PanopticSource(root=str(root), **{"val_fraction": 0, **options}).open(split)
    assert isinstance(data, InstanceMaps)
    return data


def test_objects_are_segments_and_a_class_of_stuff_is_one(tmp_path: Path) -> None:
    data = opened(fill(tmp_path, things="# what is counted\ncar\ntruck\n"))
    assert (data.classes, data.things, data.thing_names) == (("car", "truck", "road", "sky"), (0, 1), ("car", "truck"))
    assert data.palette == ((250, 0, 0), (0, 250, 0), (0, 0, 250), (9, 9, 9))
    sample = data[0]
    assert (sample.image_id, sample.image.size) == ("a", (5, 2)) and sample.segment_ids.dtype == np.int32
    # A car without a number, road, sky, then the objects 7, 9 and 300 in this order.
    assert sample.labels.tolist() == [0, 2, 3, 0, 1, 0]
    assert sample.crowd.tolist() == [True, False, False, False, False, False]
    assert sample.segment_ids.tolist() == [[4, 6, 5, 3, 0], [1, 2, 5, 3, 2]]
    assert sample.masks[1].sum() == 2


def test_things_are_classes_that_have_objects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = opened(fill(tmp_path))
    assert data.things == (0, 1)
    assert "1 map read for which classes have objects; a file things.txt" in caplog.text
    assert "things are car, truck; all other classes are stuff" in caplog.text
    data = opened(fill(tmp_path, numbers=np.where(LABELS == 3, 4, 0), things="car\ntruck\n"))
    assert data[0].labels.tolist() == [0, 1, 2, 3] and data[0].crowd.tolist() == [True, True, False, False]


def test_validation_has_the_things_of_training(tmp_path: Path) -> None:
    fill(tmp_path, "train")
    fill(tmp_path, "val", names=("b",), numbers=np.where(NUMBERS == 9, 9, 0))
    assert opened(tmp_path, "val").things == (0, 1)
    assert opened(tmp_path, "val", things=("truck",)).things == (1,)
    with pytest.raises(DataError, match=r"things: 'lorry' is no class; the classes are car, truck, road, sky"):
        opened(tmp_path, "val", things=("lorry",))


def test_a_model_has_its_own_order_of_classes(tmp_path: Path) -> None:
    data = opened(fill(tmp_path), classes=("sky", "tree", "car"))
    assert (data.classes, data.things, data.palette) == (("sky", "tree", "car"), (2,), None)
    assert "classes that the model has not are ignored: truck, road" in data.guess
    assert data[0].labels.tolist() == [2, 0, 2, 2]
    assert data[0].segment_ids.tolist() == [[3, 4, 0, 2, 0], [1, 0, 0, 2, 0]]
    with pytest.raises(DataError, match=r"none of the classes asked for \(tree\); its classes are car, truck, road"):
        opened(tmp_path, classes=("tree",))
    (tmp_path / "classes.txt").unlink()
    assert opened(tmp_path, classes=("car", "truck", "road", "sky")).things == (0, 1)
    with pytest.raises(DataError, match="the classes of the label maps in .* are not known"):
        opened(tmp_path)


def test_classes_are_chosen_and_merged(tmp_path: Path) -> None:
    choice = {"vehicle": ["car", "truck"], "ground": ["road", "sky"]}
    for things in (None, "car\ntruck\n"):
        data = opened(fill(tmp_path, things=things), choice=choice)
        assert (data.classes, data.things) == (("vehicle", "ground"), (0,))
        assert data[0].labels.tolist() == [0, 1, 0, 0, 0]
    data = opened(tmp_path, choice=["truck", "sky"])
    assert data.things == (0,) and data[0].segment_ids.tolist() == [[0, 0, 2, 1, 0], [0, 0, 2, 1, 0]]
    with pytest.raises(
        DataError, match=r"'x' of things and of stuff \(car \(thing\), road \(stuff\)\), as .*things\.txt"
    ):
        opened(tmp_path, choice={"x": ["car", "road"], "y": ["*"]})


def test_things_known_by_their_objects_alone_are_those_of_the_files_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, classes=f"{CLASSES}1 1 1 bus\n")
    with pytest.raises(
        DataError, match=r"'x' of things and of stuff \(car \(thing\), road \(stuff\)\), as the maps in"
    ):
        opened(tmp_path, choice={"x": ["car", "road"], "y": ["*"]})
    # No map has a bus: that it has no objects does not make it stuff.
    assert opened(tmp_path, choice={"x": ["car", "bus"], "y": ["road"]}).things == (0,)
    with caplog.at_level(logging.WARNING):
        assert opened(tmp_path, choice=["road", "sky"]).things == ()
    assert "things are none of the chosen classes; all other classes are stuff" in caplog.text


def test_void_is_what_the_labels_ignore(tmp_path: Path) -> None:
    assert opened(fill(tmp_path), ignore_label=2)[0].segment_ids.tolist() == [[3, 5, 4, 2, 0], [1, 0, 4, 2, 0]]


@pytest.mark.parametrize("layout", ["parts", "parts outside", "one"])
def test_layouts_are_those_of_segmentation(layout: str, tmp_path: Path) -> None:
    if layout == "one":
        fill(tmp_path, names=tuple("abcdefghij"))
        assert find_instance_maps(tmp_path, "val").hold_out
        train, val = (opened(tmp_path, split, val_fraction=0.3, seed=1) for split in ("train", "val"))
        assert (len(train), len(val)) == (7, 3) and not {*train.image_ids} & {*val.image_ids}
        assert all(Path(path).stem == name for path, name in zip(val.paths, val.image_ids, strict=True))
        assert val[2].image_id == val.image_ids[2]
        return
    for part in ("train", "val"):
        if layout == "parts":
            fill(tmp_path, part, names=(part,))
        else:
            fill(tmp_path / part, names=(part,), classes=None)
            (tmp_path / "classes.txt").write_text(CLASSES)
    assert recognised(tmp_path) == "instance_maps"
    assert opened(tmp_path, "val").image_ids == ["val"] and len(opened(tmp_path, "train")[0]) == 6


def test_folders_may_be_named(tmp_path: Path) -> None:
    fill(tmp_path)
    part = InstanceMapFolders(images=tmp_path / "images", labels=tmp_path / "labels", instances=tmp_path / "instances")
    data = PanopticSource(val=part).open("val")
    assert data.things == (0, 1) and len(data) == 1


def test_names_may_have_something_at_the_end(tmp_path: Path) -> None:
    fill(tmp_path, names=("a", "b"))
    for name in "ab":
        (tmp_path / f"labels/{name}.png").rename(tmp_path / f"labels/{name}_label.png")
        (tmp_path / f"instances/{name}.png").rename(tmp_path / f"instances/{name}_instance.png")
    assert len(opened(tmp_path)[1]) == len(opened(tmp_path, label_suffix="_label")[1]) == 6


def test_an_object_of_two_classes_is_told(tmp_path: Path) -> None:
    fill(tmp_path, numbers=np.where(NUMBERS == 9, 300, NUMBERS))
    message = r"images/a\.png: the object 300 of .*instances/a\.png is of several classes.*car \(1 pixel\), truck"
    with pytest.raises(SampleError, match=message):
        opened(tmp_path, things=("car",))[0]
    with pytest.raises(SampleError, match=message):  # where there is no other map
        opened(tmp_path)


def test_maps_without_an_object_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"instances has no object: all of its numbers are 0"):
        opened(fill(tmp_path, numbers=NUMBERS * 0))


def test_maps_that_do_not_fit_are_told(tmp_path: Path) -> None:
    fill(tmp_path, things="car\n")
    path = tmp_path / "instances/a.png"
    content = path.read_bytes()
    data = opened(tmp_path)
    wide = Image.new("L", (6, 2))
    for make, message in (
        (lambda: wide.save(path), r"a\.png has 5 x 2 pixels and its instance map .*a\.png 6 x 2"),
        (lambda: Image.new("RGB", (5, 2)).save(path), r"instance map .*a\.png has colours \(mode RGB\); save the num"),
        (lambda: wide.convert("RGB").save(path, format="JPEG"), r"instance map .* is a JPEG, whose compression"),
        (lambda: path.write_bytes(content[:60]), r"instance map .*a\.png is damaged or cut short"),
        (path.unlink, r"instance map .*a\.png cannot be read \(No such file"),
    ):
        make()
        with pytest.raises(SampleError, match=message):
            data[0]
    with pytest.raises(DataError, match=r"1 of 1 images have no instance map:\s+.*a\.png needs .*instances/a\.png"):
        opened(tmp_path)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"more than 4"):
        opened(tmp_path, max_pixels=4)[0]
    Image.fromarray(LABELS + 1).save(tmp_path / "labels/a.png")
    with pytest.raises(SampleError, match=r"label map .*a\.png has the label 4 at x=3, y=0"):
        data[0]


def test_numbers_of_few_bits_and_palettes_are_read_as_they_are(tmp_path: Path) -> None:
    fill(tmp_path, things="car\ntruck\n")
    picture = Image.fromarray(np.where(NUMBERS > 0, NUMBERS % 7, 0).astype(np.uint8))
    picture.putpalette([value % 256 for value in range(768)])
    picture.save(tmp_path / "instances/a.png", bits=4)
    assert opened(tmp_path)[0].crowd.tolist() == [True, False, False, False, False]


def test_things_that_are_no_class_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"things\.txt: 'truk' is no class; did you mean truck\? the classes are car"):
        opened(fill(tmp_path, things="car\ntruk\n"))


def test_what_a_folder_is_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        recognised(tmp_path / "none")
    with pytest.raises(NothingFoundError, match=r"no segments that are known: looked for .*panoptic.* instances/"):
        recognised(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val.json").write_text("{}")
    with pytest.raises(NothingFoundError, match=r"instances_val\.json is of objects, which may overlap: train a det"):
        recognised(tmp_path)
    with pytest.raises(NothingFoundError, match="has no instances/"):
        find_instance_maps(tmp_path, "train")
    fill(tmp_path)
    (tmp_path / "panoptic.json").write_text("{}")
    with pytest.raises(DataError, match=r"in several ways: coco, instance_maps; say which with --data\.kind coco"):
        PanopticSource(root=str(tmp_path)).open("train")
    assert len(opened(tmp_path, kind="instance_maps")) == 1
    with pytest.raises(DataError, match="has no folder of PNGs"):
        PanopticSource(root=str(tmp_path), kind="coco").open("train")


def test_parts_without_instances_are_told(tmp_path: Path) -> None:
    fill(tmp_path, "train")
    fill(tmp_path, "val")
    (tmp_path / "instances/val").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"labels/val has no instance maps beside it; add .*instances/val"):
        opened(tmp_path, "val")
    (tmp_path / "labels").rename(tmp_path / "images/labels")
    with pytest.raises(NothingFoundError, match="has no images with label maps for 'train'"):
        opened(tmp_path)


def test_what_is_measured_of_an_image_is_the_same_in_either_format(tmp_path: Path) -> None:
    data = opened(fill(tmp_path / "own"))
    sample = data[0]
    sample.segmentation(data.classes, data.things).save_coco(tmp_path / "a.png", image_id=1, things=data.things)
    (tmp_path / "images").mkdir()
    (tmp_path / "own/images/a.png").rename(tmp_path / "images/a.png")
    again = PanopticDataset(tmp_path / "images", tmp_path / "a.json", tmp_path)
    np.testing.assert_array_equal(again[0].segment_ids > 0, sample.segment_ids > 0)
    assert (again.classes, again.things) == (data.classes, data.things)
