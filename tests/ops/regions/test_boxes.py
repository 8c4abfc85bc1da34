"""Box geometry against formulas written box by box."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.ops.regions.boxes import (
    MAX_LOG_RATIO,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    flip_boxes,
    generalized_iou,
    pairwise_iou,
    scale_boxes,
    unscale_boxes,
)

STDS = (0.1, 0.1, 0.2, 0.2)
Box = tuple[float, float, float, float]


def random_boxes(count: int, seed: int = 0, limit: float = 100.0) -> torch.Tensor:
    draw = random.Random(seed)
    boxes = []
    for _ in range(count):
        x0, y0 = draw.uniform(0, limit), draw.uniform(0, limit)
        boxes.append([x0, y0, x0 + draw.uniform(1, limit / 2), y0 + draw.uniform(1, limit / 2)])
    return torch.tensor(boxes).reshape(-1, 4)


def scalar_encode(box: list[float], target: list[float], stds: Box) -> list[float]:
    w, h = box[2] - box[0], box[3] - box[1]
    tw, th = target[2] - target[0], target[3] - target[1]
    dx = ((target[0] + target[2]) / 2 - (box[0] + box[2]) / 2) / w
    dy = ((target[1] + target[3]) / 2 - (box[1] + box[3]) / 2) / h
    return [dx / stds[0], dy / stds[1], math.log(tw / w) / stds[2], math.log(th / h) / stds[3]]


def scalar_decode(box: list[float], delta: list[float], stds: Box) -> list[float]:
    dx, dy, dw, dh = (value * std for value, std in zip(delta, stds, strict=True))
    limit = abs(math.log(16 / 1000))
    w = (box[2] - box[0]) * math.exp(max(-limit, min(limit, dw)))
    h = (box[3] - box[1]) * math.exp(max(-limit, min(limit, dh)))
    x = (box[0] + box[2]) / 2 + (box[2] - box[0]) * dx
    y = (box[1] + box[3]) / 2 + (box[3] - box[1]) * dy
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def scalar_overlap(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """IoU, union, and generalised IoU."""
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter, 1e-6)
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    hull = max(hull, 1e-6)
    return inter / union, union, inter / union - (hull - union) / hull


def test_deltas_are_what_the_formula_gives() -> None:
    boxes, targets = random_boxes(20, 1), random_boxes(20, 2)
    expected = [scalar_encode(box, target, STDS) for box, target in zip(boxes.tolist(), targets.tolist(), strict=True)]
    torch.testing.assert_close(encode_boxes(boxes, targets, STDS), torch.tensor(expected), atol=1e-4, rtol=1e-5)


def test_decoding_is_what_the_formula_gives_far_beyond_the_clamp_too() -> None:
    boxes = random_boxes(40, 3)
    deltas = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 3, 40, 40])
    expected = [scalar_decode(box, delta, STDS) for box, delta in zip(boxes.tolist(), deltas.tolist(), strict=True)]
    torch.testing.assert_close(decode_boxes(boxes, deltas, STDS), torch.tensor(expected), atol=1e-2, rtol=1e-5)
    assert pytest.approx(4.135166556742356) == MAX_LOG_RATIO


def test_decoding_undoes_encoding() -> None:
    boxes, targets = random_boxes(30, 4), random_boxes(30, 5)
    torch.testing.assert_close(decode_boxes(boxes, encode_boxes(boxes, targets, STDS), STDS), targets)


def test_one_box_takes_the_deltas_of_many_classes() -> None:
    boxes, deltas = random_boxes(5, 6), torch.randn(5, 3, 4)
    together = decode_boxes(boxes[:, None], deltas, STDS, (60, 50))
    assert together.shape == (5, 3, 4)
    for label in range(3):
        assert torch.equal(together[:, label], decode_boxes(boxes, deltas[:, label], STDS, (60, 50)))


def test_clipping_is_to_width_in_x_and_to_height_in_y() -> None:
    boxes = torch.tensor([[-5.0, -5, 500, 500], [30, 40, 35, 45], [60, 70, 80, 90]])
    expected = torch.tensor([[0.0, 0, 50, 60], [30, 40, 35, 45], [50, 60, 50, 60]])
    assert torch.equal(clip_boxes(boxes, (60, 50)), expected)


def test_overlaps_are_what_the_formulas_give_without_area_too() -> None:
    first = torch.cat([random_boxes(12, 7, 20), torch.tensor([[3.0, 3, 3, 3], [5, 5, 5, 9]])])
    second = torch.cat([random_boxes(12, 8, 20), torch.tensor([[3.0, 3, 3, 3], [50, 50, 51, 51]])])
    expected = [[scalar_overlap(a, b)[0] for b in second.tolist()] for a in first.tolist()]
    torch.testing.assert_close(pairwise_iou(first, second), torch.tensor(expected))
    generalized = [scalar_overlap(a, b)[2] for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    torch.testing.assert_close(generalized_iou(first, second), torch.tensor(generalized), atol=1e-5, rtol=1e-5)


def test_overlaps_of_no_boxes() -> None:
    assert pairwise_iou(torch.zeros(0, 4), random_boxes(3)).shape == (0, 3)
    assert pairwise_iou(random_boxes(3), torch.zeros(0, 4)).shape == (3, 0)
    assert generalized_iou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def test_generalized_iou_pulls_boxes_together_that_do_not_touch() -> None:
    box = torch.tensor([[0.0, 0, 2, 2]], requires_grad=True)
    generalized_iou(box, torch.tensor([[10.0, 0, 12, 2]])).sum().backward()
    assert box.grad is not None
    assert torch.isfinite(box.grad).all()
    assert box.grad[0, 2] > 0


@settings(max_examples=30)
@given(width=st.integers(1, 1000), seed=st.integers(0, 100))
def test_flipping_twice_changes_nothing_and_keeps_sides(width: int, seed: int) -> None:
    boxes = random_boxes(4, seed)
    flipped = flip_boxes(boxes, width)
    torch.testing.assert_close(flip_boxes(flipped, width), boxes, atol=1e-3, rtol=0)
    assert (flipped[:, 2] > flipped[:, 0]).all()
    assert torch.equal(flipped[:, 1::2], boxes[:, 1::2])


def test_scaling_there_and_back() -> None:
    boxes, factor = random_boxes(6, 9), (1.5, 0.75, 1.5, 0.75)
    scaled = scale_boxes(boxes, factor)
    torch.testing.assert_close(scaled[:, 0], boxes[:, 0] * 1.5)
    torch.testing.assert_close(scaled[:, 3], boxes[:, 3] * 0.75)
    torch.testing.assert_close(unscale_boxes(scaled, factor), boxes)
