"""Suppression against a greedy loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.ops.regions import nms
from swin_transformer_pytorch.ops.regions.nms import batched_nms


def greedy(boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, threshold: float) -> list[int]:
    """Best first; a box stays unless a kept one of its group overlaps it by more. In float32, on moved boxes."""
    moved = boxes.numpy() + (groups.numpy() * np.float32(boxes.max() + 1)).astype(np.float32)[:, None]
    order = sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i))
    kept: list[int] = []
    for i in order:
        if not any(groups[i] == groups[j] and iou(moved[i], moved[j]) > threshold for j in kept):
            kept.append(i)
    return kept


def iou(a: np.ndarray, b: np.ndarray) -> float:
    zero = np.float32(0)
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), zero) * max(min(a[3], b[3]) - max(a[1], b[1]), zero)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return float(inter / union) if union > 0 else 0.0


def candidates(count: int, seed: int, groups: int, low: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 30 + low
    sides = torch.rand(count, 2, generator=generator) * 20
    scores = (torch.rand(count, generator=generator) * 10).round() / 10  # with ties
    return torch.cat([corners, corners + sides], dim=1), scores, torch.randint(groups, (count,), generator=generator)


@settings(max_examples=30)
@given(count=st.integers(0, 40), seed=st.integers(0, 1000), groups=st.integers(1, 5))
def test_boxes_kept_and_their_order_are_the_greedy_loops(count: int, seed: int, groups: int) -> None:
    boxes, scores, group = candidates(count, seed, groups)
    expected = greedy(boxes, scores, group, 0.5) if count else []
    assert batched_nms(boxes, scores, group, 0.5).tolist() == expected


@pytest.mark.parametrize("low", [0.0, -15.0])
def test_one_call_and_one_for_each_group_give_the_same(monkeypatch: pytest.MonkeyPatch, low: float) -> None:
    boxes, scores, groups = candidates(60, 5, 4, low)
    expected = batched_nms(boxes, scores, groups, 0.4)
    monkeypatch.setattr(nms, "SPLIT_AT", 10)
    assert batched_nms(boxes, scores, groups, 0.4).tolist() == expected.tolist()
    assert expected.tolist() == greedy(boxes, scores, groups, 0.4)


def test_more_than_ten_thousand_boxes() -> None:
    """Each box ten times, the first best: one of each stays."""
    places = torch.arange(1100).float() * 30
    boxes = torch.stack([places, places, places + 20, places + 20], dim=1).repeat_interleave(10, dim=0)
    scores = torch.linspace(1, 0.1, len(boxes))
    groups = torch.arange(1100).repeat_interleave(10) % 7
    assert batched_nms(boxes, scores, groups, 0.5).tolist() == list(range(0, 11_000, 10))


def test_an_overlap_of_exactly_the_threshold_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5.1]])
    assert batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64), 0.5).tolist() == [0, 1]


def test_boxes_without_area_disturb_nothing() -> None:
    boxes = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 3], [0, 0, 10, 10]])
    assert len(batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64), 0.5)) == 3


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 300),
    seed=st.integers(0, 1000),
    groups=st.integers(1, 9),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    low=st.sampled_from([0.0, -15.0]),
    most=st.integers(0, 50),
)
def test_the_kernel_keeps_what_torchvision_keeps(
    count: int, seed: int, groups: int, threshold: float, low: float, most: int
) -> None:
    boxes, scores, group = candidates(count, seed, groups, low)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "_takes", lambda *_: False)
        expected = batched_nms(boxes, scores, group, threshold)
        assert torch.equal(batched_nms(boxes, scores, group, threshold, most), expected[:most])
    assert torch.equal(batched_nms(boxes, scores, group, threshold), expected)
    assert torch.equal(batched_nms(boxes, scores, group, threshold, most), expected[:most])
