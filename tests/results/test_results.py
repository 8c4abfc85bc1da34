import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.results import Classification, Detections, SegmentationMap
from swin_transformer_pytorch.rle import encode_mask
from swin_transformer_pytorch.visualize import overlay


def test_a_classification_is_frozen_plain_and_readable():
    result = Classification(labels=(3, 1), scores=(0.75, 0.25), names=("fox", "cat"))
    assert json.loads(json.dumps(result.to_dict())) == {
        "labels": [3, 1],
        "scores": [0.75, 0.25],
        "names": ["fox", "cat"],
    }
    assert str(result) == "fox 75.0%, cat 25.0%"
    assert repr(result) == "<Classification: fox 75.0%, cat 25.0%>"
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.labels = ()


def test_its_parts_belong_together():
    with pytest.raises(ValueError, match="have 2, 1 and 2 entries"):
        Classification(labels=(3, 1), scores=(0.75,), names=("fox", "cat"))


def detections(**changes):
    fields = {
        "boxes_xyxy": np.array([[0, 1, 2.5, 3], [1, 1, 2, 2]]),
        "scores": [0.9, 0.3],
        "labels": [4, 0],
        "names": ["fox", "cat"],
        "image_size": (3, 4),
        "mask_rles": (b"04530", b"<"),
    }
    return Detections(**{**fields, **changes})


def test_detections_are_plain_readable_and_comparable():
    result = detections()
    record = json.loads(json.dumps(result.to_dict()))
    assert record == {
        "image_size": [3, 4],
        "boxes": [[0.0, 1.0, 2.5, 3.0], [1.0, 1.0, 2.0, 2.0]],
        "scores": [0.9, 0.3],
        "labels": [4, 0],
        "names": ["fox", "cat"],
        "masks": [{"size": [3, 4], "counts": "04530"}, {"size": [3, 4], "counts": "<"}],
    }
    assert np.float32(record["scores"][0]) == result.scores[0]
    assert str(result) == "fox 90.0%, cat 30.0%"
    assert repr(result) == "<Detections of 2 objects with masks in 3 x 4 pixels: 1 fox, 1 cat>"
    assert result == detections()
    assert result != detections(scores=[0.9, 0.2])
    assert result != detections(mask_rles=None)
    assert result != "fox"
    assert (result.boxes_xyxy.dtype, result.labels.dtype) == (np.float32, np.int64)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.names = ()


def test_detections_above_a_score():
    result = detections()
    assert result.above(0.3) == result
    assert result.above(0.31) == detections(
        boxes_xyxy=[[0, 1, 2.5, 3]], scores=[0.9], labels=[4], names=["fox"], mask_rles=(b"04530",)
    )
    assert detections(mask_rles=None).above(0.95) == detections(
        boxes_xyxy=[], scores=[], labels=[], names=[], mask_rles=None
    )


def test_no_detections():
    result = detections(boxes_xyxy=[], scores=[], labels=[], names=[], mask_rles=[])
    assert len(result) == 0
    assert result.boxes_xyxy.shape == (0, 4)
    assert result.masks.shape == (0, 3, 4)
    assert result.to_dict()["masks"] == []
    assert str(result) == "no objects"
    assert "masks" not in detections(mask_rles=None).to_dict()


@pytest.mark.parametrize("change", [{"scores": [0.9]}, {"names": ["fox"]}, {"mask_rles": [b"<"]}, {"labels": [1] * 3}])
def test_parts_of_detections_belong_together(change):
    with pytest.raises(ValueError, match="do not belong together"):
        detections(**change)


def test_masks_are_those_that_were_encoded():
    masks = np.random.default_rng(0).random((2, 3, 4)) < 0.5
    result = detections(mask_rles=[encode_mask(mask) for mask in masks])
    np.testing.assert_array_equal(result.masks, masks)
    np.testing.assert_array_equal(result.mask(1), masks[1])
    assert detections(mask_rles=None).masks is None
    with pytest.raises(ValueError, match="no masks"):
        detections(mask_rles=None).mask(0)


def test_a_map_tells_the_share_of_each_class():
    labels = np.array([[2, 2, 2, 0], [2, 255, 2, 0]], dtype=np.uint8)
    result = SegmentationMap(labels=labels, names=["sky", "sea", "sand"], palette=[[0, 0, 255]] * 3)
    assert result.shares == {2: 5 / 8, 0: 2 / 8}
    assert result.areas == {2: 5, 0: 2}
    assert json.loads(json.dumps(result.to_dict())) == {
        "image_size": [2, 4],
        "labels": [2, 0],
        "names": ["sand", "sky"],
        "shares": [0.625, 0.25],
    }
    assert repr(result) == "<SegmentationMap of 2 x 4 pixels: sand 62.5%, sky 25.0%>"
    assert result == SegmentationMap(labels=labels.astype(int), names=result.names, palette=result.palette)
    assert result != SegmentationMap(labels=labels, names=result.names)
    assert result != SegmentationMap(labels=labels * 0, names=result.names, palette=result.palette)
    assert result != 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": np.zeros((2, 2, 3), dtype=np.uint8)}, r"shape \(2, 2, 3\)"),
        ({"labels": np.zeros((2, 2))}, "float64"),
        ({"labels": np.array([[0, 3]])}, "label 3 has no name among the 3"),
        ({"labels": np.array([[0, -1]])}, "label -1"),
        ({"palette": [(0, 0, 0)]}, "1 colours for 3 classes"),
    ],
)
def test_a_map_that_cannot_be_is_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        SegmentationMap(**{"labels": np.zeros((2, 2), dtype=int), "names": ("sky", "sea", "sand"), **fields})


def test_results_of_many_things_have_a_short_repr():
    many = Detections(
        boxes_xyxy=np.zeros((1000, 4)),
        scores=np.zeros(1000),
        labels=np.zeros(1000),
        names=[f"a class {index % 100}" for index in range(1000)],
        image_size=(9, 9),
    )
    classes = [f"a class {index}" for index in range(1000)]
    for result in (
        many,
        Classification(labels=tuple(range(1000)), scores=(0.001,) * 1000, names=tuple(classes)),
        SegmentationMap(labels=np.arange(1000).reshape(10, 100), names=classes),
    ):
        assert len(repr(result)) < 200 and "\n" not in repr(result)
        assert "and 95 more" in repr(result) or "and 995 more" in repr(result)


objects = st.integers(0, 6).flatmap(
    lambda count: st.tuples(st.just(count), st.lists(st.booleans(), min_size=count, max_size=count), st.booleans())
)


@settings(max_examples=50)
@given(objects, st.slices(6), st.lists(st.integers(-6, 5), max_size=8))
def test_objects_are_chosen_as_numpy_chooses_them(drawn, part, indices):
    count, truths, has_masks = drawn
    whole = Detections(
        boxes_xyxy=np.arange(4 * count).reshape(count, 4),
        scores=np.linspace(1, 0, count),
        labels=range(count),
        names=[f"object {index}" for index in range(count)],
        image_size=(3, 4),
        mask_rles=[b"<" * (index + 1) for index in range(count)] if has_masks else None,
    )
    indices = [index for index in indices if -count <= index < count]
    for which in (part, indices, np.array(indices, dtype=int), np.array(truths, dtype=bool), truths):
        chosen = np.arange(count)[which].tolist()
        found = whole[which]
        assert isinstance(found, Detections) and found.image_size == whole.image_size
        assert found.labels.tolist() == chosen
        assert found.names == tuple(f"object {index}" for index in chosen)
        np.testing.assert_array_equal(found.boxes_xyxy, whole.boxes_xyxy[chosen])
        np.testing.assert_array_equal(found.scores, whole.scores[chosen])
        assert found.mask_rles == (tuple(b"<" * (index + 1) for index in chosen) if has_masks else None)
    assert [*whole] == [whole[index] for index in range(count)] == [whole[[index]] for index in range(count)]
    assert Detections.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole


@pytest.mark.parametrize("which", [2, -3, True, "fox", 0.5, None, [[0]], (0, 1), [2], [True], np.array([True] * 3)])
def test_an_object_that_is_not_there_is_an_index_error(which):
    with pytest.raises(IndexError):
        detections()[which]


def test_objects_are_counted_the_most_first():
    names = ["cat", "fox", "cat", "cat", "dog"]
    found = Detections(boxes_xyxy=np.zeros((5, 4)), scores=[1] * 5, labels=[0] * 5, names=names, image_size=(3, 4))
    assert [*found.counts().items()] == [("cat", 3), ("fox", 1), ("dog", 1)]
    assert found[:0].counts() == {}


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([1, 2, 4, 5], (1, 2, 4, 5)),
        ([0.5, 1.9, 3.1, 4.0], (0, 1, 4, 4)),  # the pixels that it touches
        ([-9, -9, 99, 99], (0, 0, 8, 6)),
        ([3, 3, 3, 3], (3, 3, 4, 4)),  # of no extent: one pixel
        ([8, 6, 8, 6], (7, 5, 8, 6)),
        ([50, 50, 60, 60], (7, 5, 8, 6)),
    ],
)
def test_an_object_s_part_of_the_image(box, expected, tmp_path):
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    mask = np.random.default_rng(0).random((6, 8)) < 0.5
    found = Detections(
        boxes_xyxy=[box], scores=[1], labels=[0], names=["fox"], image_size=(6, 8), mask_rles=[encode_mask(mask)]
    )
    Image.fromarray(pixels).save(tmp_path / "image.png")
    left, top, right, bottom = expected
    for image in (pixels, Image.fromarray(pixels), tmp_path / "image.png", str(tmp_path / "image.png")):
        (part,) = found.crop(image)
        np.testing.assert_array_equal(np.asarray(part), pixels[top:bottom, left:right])
    (part,) = found.crop(pixels, cut_out=True)
    assert part.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(part)[..., 3], mask[top:bottom, left:right] * 255)
    with pytest.raises(ValueError, match="5 x 8 pixels and the result is for 6 x 8"):
        found.crop(pixels[1:])
    with pytest.raises(ValueError, match="no masks"):
        dataclasses.replace(found, mask_rles=None).crop(pixels, cut_out=True)


@given(st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_a_class_of_a_map_as_a_mask(values):
    labels = np.array(values, dtype=np.uint8).reshape(3, 4)
    result = SegmentationMap(labels=labels, names=("sky", "café", "sand", "sky"))
    for label in range(1, 3):
        for which in (label, result.names[label]):
            np.testing.assert_array_equal(result.mask(which), labels == label)
        assert result.areas.get(label, 0) == (labels == label).sum()
    np.testing.assert_array_equal(result.mask("cafe\u0301"), labels == 1)
    np.testing.assert_array_equal(result.mask("sky"), (labels == 0) | (labels == 3))
    np.testing.assert_array_equal(result.mask(3), labels == 3)


@pytest.mark.parametrize(
    ("which", "hint"),
    [("snd", "did you mean sand"), ("fox", "the classes are sky, sand"), (2, "use 0 to 1"), (-1, "use 0 to 1")],
)
def test_a_class_that_a_map_does_not_know(which, hint):
    result = SegmentationMap(labels=np.array([[0, 255]]), names=("sky", "sand"))
    with pytest.raises(ValueError, match=f"no class {which!r}: {hint}"):
        result.mask(which)


@pytest.mark.parametrize(
    "result",
    [
        Classification(labels=(3,), scores=(0.75,), names=("fox",)),
        detections(boxes_xyxy=[[0, 1, 3, 6], [1, 1, 2, 2]], image_size=(6, 8), mask_rles=None),
        SegmentationMap(labels=np.zeros((6, 8), dtype=np.uint8), names=("sky",)),
    ],
    ids=lambda result: type(result).__name__,
)
def test_every_result_draws_itself(result, tmp_path):
    photo = tmp_path / "photo.jpg"
    turned = Image.new("RGB", (6, 8), "white")
    exif = turned.getexif()
    exif[0x0112] = 6  # shown lying, 8 x 6
    turned.save(photo, exif=exif)
    picture = result.plot(photo)
    assert picture.mode == "RGB" and picture.tobytes() == overlay(Image.new("RGB", (8, 6), "white"), result).tobytes()
    result.save(photo, tmp_path / "new" / "out.png")
    with Image.open(tmp_path / "new" / "out.png") as saved:
        assert saved.tobytes() == picture.tobytes()


def test_results_load_nothing_that_draws():
    code = (
        "import sys, swin_transformer_pytorch.results; "
        "loaded = {part for name in sys.modules for part in name.split('.')}; "
        "sys.exit(bool(loaded & {'visualize', 'PIL', 'pandas', 'torch'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("box", "score"), [((0, np.nan, 1, 1), 0.5), ((0, 0, np.inf, 1), 0.5), ((0, 0, 1, 1), np.nan)])
def test_numbers_that_are_none_are_refused(box, score):
    with pytest.raises(ValueError, match="object 1 has .*1 of 2 objects have NaN or infinite"):
        Detections(
            boxes_xyxy=[(0, 0, 1, 1), box], scores=[0.9, score], labels=[0, 0], names=["a", "a"], image_size=(9, 9)
        )
    with pytest.raises(ValueError, match="1 of 2 scores are nan"):
        Classification(labels=(0, 1), scores=(0.5, np.nan), names=("a", "b"))


def test_an_image_is_drawn_on_in_every_form_that_a_predictor_takes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    found = Detections(boxes_xyxy=[(3, 3, 9, 9)], scores=[0.5], labels=[0], names=["a"], image_size=(20, 30))
    expected = np.asarray(found.plot(pixels))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    opaque = np.concatenate([pixels, np.full((20, 30, 1), 255, np.uint8)], axis=2)
    path = tmp_path / "a.png"
    for image in (Image.fromarray(pixels), path, str(path), path.read_bytes(), tensor, tensor / 255, opaque):
        np.testing.assert_array_equal(np.asarray(found.plot(image)), expected)
    for wrong in (pixels / 255.0, None, b"", np.zeros((0, 3), np.uint8)):
        with pytest.raises(ImageError):
            found.plot(wrong)


@pytest.mark.parametrize("name", ["a", "a.xyz", "."])
def test_a_picture_s_file_needs_an_ending(tmp_path, name):
    result = SegmentationMap(labels=np.zeros((3, 3), np.uint8), names=("a",))
    with pytest.raises(ValueError, match=r"no picture's format; name it \.png or \.jpg"):
        result.save(np.zeros((3, 3), np.uint8), tmp_path / name)
    assert not list(tmp_path.iterdir())
