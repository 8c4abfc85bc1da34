"""Soft-NMS against a scalar reference that works box by box."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from swin_transformer_pytorch.ops.regions.soft_nms import soft_nms


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def one_by_one(
    boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, min_score: float
) -> list[tuple[int, float]]:
    """(index, decayed score), best first: pick, decay, drop, a box at a time and a group at a time."""
    found = []
    for group in sorted(set(groups.tolist())):
        left = {i: float(scores[i]) for i in range(len(scores)) if groups[i] == group}
        while left:
            best = max(left, key=lambda i: (left[i], -i))
            found.append((best, left.pop(best)))
            for i in list(left):
                overlap = iou(boxes[i].tolist(), boxes[best].tolist())
                if overlap >= threshold:
                    left[i] *= 1 - overlap
                if left[i] < min_score:
                    del left[i]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def random_boxes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 30
    sides = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 20
    return torch.cat([corners, corners + sides], dim=1), torch.rand(count, generator=generator, dtype=torch.float64)


@given(st.integers(1, 25), st.integers(1, 4), st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.5]))
def test_it_is_what_one_box_at_a_time_gives(count: int, num_groups: int, seed: int, threshold: float) -> None:
    boxes, scores = random_boxes(count, seed)
    groups = torch.arange(count) % num_groups * 7 - 3  # group names may be anything
    expected = one_by_one(boxes, scores, groups, threshold, 0.05)
    kept, decayed = soft_nms(boxes, scores, groups, iou_threshold=threshold, min_score=0.05)
    assert kept.tolist() == [i for i, _ in expected]
    torch.testing.assert_close(decayed, torch.tensor([s for _, s in expected], dtype=torch.float64))


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_the_best_few_are_the_start_of_all(most: int) -> None:
    boxes, scores = random_boxes(60, seed=5)
    groups = torch.randint(3, (60,))
    kept, decayed = soft_nms(boxes, scores, groups)
    few, few_decayed = soft_nms(boxes, scores, groups, max_kept=most)
    assert torch.equal(few, kept[:most]) and torch.equal(few_decayed, decayed[:most])


def test_a_box_over_the_threshold_decays_by_what_is_not_shared() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 2]])
    kept, decayed = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64))
    # The third shares 0.2 with the first, below 0.3, and 0.4 with the second, which goes before it or after.
    assert kept.tolist() == [0, 2, 1]
    torch.testing.assert_close(decayed, torch.tensor([0.9, 0.7, 0.8 * 0.5 * 0.6]))


def test_a_copy_of_the_best_box_disappears_and_other_groups_stay() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3)
    kept, decayed = soft_nms(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([1, 1, 2]))
    assert kept.tolist() == [1, 2] and decayed.tolist() == pytest.approx([0.9, 0.7])


def test_boxes_without_area_do_no_harm() -> None:
    boxes = torch.tensor([[3.0, 3, 3, 3]] * 2)
    kept, decayed = soft_nms(boxes, torch.tensor([0.5, 0.4]), torch.zeros(2, dtype=torch.int64))
    assert kept.tolist() == [0, 1] and bool(decayed.isfinite().all())


def test_no_boxes_give_none() -> None:
    kept, decayed = soft_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert len(kept) == 0 and len(decayed) == 0


def test_ten_thousand_candidates_are_no_matter() -> None:
    boxes, scores = random_boxes(10_000, seed=1)
    kept, decayed = soft_nms(boxes, scores, torch.arange(10_000) % 80, max_kept=100)
    assert len(kept) == 100 and bool((decayed[1:] <= decayed[:-1]).all())
