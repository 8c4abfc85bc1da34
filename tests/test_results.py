import dataclasses
import json

import numpy as np
import pytest

from swin_transformer_pytorch.results import Classification, Detections, SegmentationMap
from swin_transformer_pytorch.rle import encode_mask


def test_a_classification_is_frozen_plain_and_readable():
    result = Classification(labels=(3, 1), scores=(0.75, 0.25), names=("fox", "cat"))
    assert json.loads(json.dumps(result.to_dict())) == {
        "labels": [3, 1],
        "scores": [0.75, 0.25],
        "names": ["fox", "cat"],
    }
    assert str(result) == "fox 75.0%, cat 25.0%"
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
    assert repr(result) == "<Detections of 2 objects with masks in 3 x 4 pixels: fox 90.0%, cat 30.0%>"
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
