"""From a detector's tensors to results."""

import numpy as np
import pytest
import torch

from swin_transformer_pytorch.models import detection_results
from swin_transformer_pytorch.models.detection_results import instances_to_detections
from swin_transformer_pytorch.ops.regions.instances import InstancePredictions
from swin_transformer_pytorch.ops.regions.masks import paste_masks

SIZE = (30, 40)


def predictions(count: int) -> InstancePredictions:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 25
    return InstancePredictions(
        boxes_xyxy=torch.cat([corners, corners + 1 + torch.rand(count, 2, generator=generator) * 10], dim=1),
        scores=torch.linspace(0.9, 0.1, count),
        labels=torch.arange(count) % 3,
        masks=torch.rand(count, 28, 28, generator=generator),
    )


@pytest.mark.parametrize("most_pixels", [1, 3 * 30 * 40, 1 << 26])
def test_masks_are_pasted_whatever_the_chunks(most_pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_results, "_PASTED_PIXELS", most_pixels)
    given = predictions(7)
    result = instances_to_detections(given, SIZE, ["ant", "bee", "cat"])
    assert result.names == ("ant", "bee", "cat", "ant", "bee", "cat", "ant")
    np.testing.assert_array_equal(result.boxes_xyxy, given.boxes_xyxy)
    np.testing.assert_array_equal(result.scores, given.scores)
    np.testing.assert_array_equal(result.masks, paste_masks(given.masks, given.boxes_xyxy, SIZE))


def test_no_objects_and_no_names() -> None:
    empty = instances_to_detections(predictions(0), SIZE, None)
    assert len(empty) == 0
    assert empty.masks is not None and empty.masks.shape == (0, *SIZE)
    assert instances_to_detections(predictions(2), SIZE, None).names == ("class 0", "class 1")


def test_half_precision_becomes_single() -> None:
    given = predictions(2)
    half = InstancePredictions(
        boxes_xyxy=given.boxes_xyxy.bfloat16(),
        scores=given.scores.bfloat16(),
        labels=given.labels,
        masks=given.masks.bfloat16(),
    )
    result = instances_to_detections(half, SIZE, None)
    assert result.scores.dtype == np.float32
    assert result.masks is not None and result.masks.any()
