"""Assignment and sampling against the official rules, box by box."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.ops.regions.assign import assign, sample
from swin_transformer_pytorch.ops.regions.boxes import pairwise_iou

RPN = {"positive": 0.7, "negative": 0.3, "minimum": 0.3, "low_quality": True}
ROI = {"positive": 0.5, "negative": 0.5, "minimum": 0.5, "low_quality": True}
CASCADE = {"positive": 0.6, "negative": 0.6, "minimum": 0.6, "low_quality": False}


def scalar_assign(overlaps: list[list[float]], rules: dict[str, float]) -> list[int]:
    """`overlaps[k][i]`: object k, box i."""
    count = len(overlaps[0])
    result = [-1] * count
    for i in range(count):
        values = [row[i] for row in overlaps]
        if max(values) < rules["negative"]:
            result[i] = 0
        if max(values) >= rules["positive"]:
            result[i] = values.index(max(values)) + 1
    if rules["low_quality"]:
        for k, row in enumerate(overlaps):
            if max(row) >= rules["minimum"]:
                for i in range(count):
                    if row[i] == max(row):
                        result[i] = k + 1
    return result


def grid_boxes(count: int, seed: int) -> torch.Tensor:
    """Whole-number corners on a small grid, so that overlaps tie."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 8, (count, 2), generator=generator)
    sides = torch.randint(1, 7, (count, 2), generator=generator)
    return torch.cat([corners, corners + sides], dim=1).float()


@pytest.mark.parametrize("rules", [RPN, ROI, CASCADE])
@settings(max_examples=30)
@given(count=st.integers(1, 30), objects=st.integers(1, 6), seed=st.integers(0, 1000))
def test_assignment_is_the_scalar_rules(rules: dict[str, float], count: int, objects: int, seed: int) -> None:
    boxes, targets = grid_boxes(count, seed), grid_boxes(objects, seed + 5000)
    expected = scalar_assign(pairwise_iou(targets, boxes).tolist(), rules)
    assert assign(boxes, targets, **rules).tolist() == expected


def test_without_objects_everything_is_background() -> None:
    assert assign(grid_boxes(4, 0), torch.zeros(0, 4), **RPN).tolist() == [0, 0, 0, 0]
    assert assign(torch.zeros(0, 4), grid_boxes(2, 0), **RPN).shape == (0,)
    assert assign(torch.zeros(0, 4), torch.zeros(0, 4), **RPN).shape == (0,)


def test_an_object_below_the_least_overlap_takes_no_box() -> None:
    boxes = torch.tensor([[0.0, 0, 100, 100], [0, 0, 50, 50]])
    pixel = torch.tensor([[10.0, 10, 11, 11]])
    assert assign(boxes, pixel, **RPN).tolist() == [0, 0]


@settings(max_examples=30)
@given(
    positives=st.integers(0, 40),
    negatives=st.integers(0, 40),
    ignored=st.integers(0, 10),
    num=st.integers(1, 40),
    fraction=st.sampled_from([0.25, 0.5]),
)
def test_sample_counts(positives: int, negatives: int, ignored: int, num: int, fraction: float) -> None:
    assignment = torch.tensor([3] * positives + [0] * negatives + [-1] * ignored, dtype=torch.int64)
    assignment = assignment[torch.randperm(len(assignment))]
    chosen, background = sample(assignment, num, fraction)
    assert len(chosen) == min(positives, int(num * fraction))
    assert len(background) == min(negatives, num - len(chosen))
    assert (assignment[chosen] == 3).all()
    assert (assignment[background] == 0).all()
    assert len(set(chosen.tolist())) == len(chosen)
    assert len(set(background.tolist())) == len(background)


def test_a_generator_makes_the_draw_repeatable_and_every_box_can_be_drawn() -> None:
    assignment = torch.tensor([1] * 10 + [0] * 10)
    draws = [sample(assignment, 8, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, *range(60))]
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    assert {i for chosen, _ in draws for i in chosen.tolist()} == set(range(10))
    assert {i for _, background in draws for i in background.tolist()} == set(range(10, 20))
