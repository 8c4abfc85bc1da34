"""From raw predictions to detections, against scalar code."""

import math

import pytest
import torch

from swin_transformer_pytorch.heads.roi_head import (
    DetectionRules,
    RegionPredictions,
    chunked_mask_probabilities,
    select_detections,
)

CLASSES = 3
SIZE = (60, 80)
STDS = (0.1, 0.1, 0.2, 0.2)
SCALE = (0.8, 0.75, 0.8, 0.75)


def predictions(count: int = 30, boxes: int = CLASSES, seed: int = 0) -> RegionPredictions:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 50
    regions = torch.cat([corners, corners + 5 + torch.rand(count, 2, generator=generator) * 25], dim=1)
    return RegionPredictions(
        regions=regions,
        logits=torch.randn(count, CLASSES + 1, generator=generator) * 2,
        deltas=torch.randn(count, boxes, 4, generator=generator),
        stds=STDS,
    )


def scalar_detections(raw: RegionPredictions, rules: DetectionRules) -> list[tuple[float, int, list[float]]]:
    found = []
    for i, box in enumerate(raw.regions.tolist()):
        values = raw.logits[i].tolist()
        total = sum(math.exp(value) for value in values)
        for label in range(CLASSES):
            score = math.exp(values[label]) / total
            if score <= rules.score_threshold:
                continue
            moves = raw.deltas[i, label if raw.deltas.shape[1] > 1 else 0].tolist()
            dx, dy, dw, dh = (value * std for value, std in zip(moves, STDS, strict=True))
            w, h = (box[2] - box[0]) * math.exp(dw), (box[3] - box[1]) * math.exp(dh)
            x = (box[0] + box[2]) / 2 + dx * (box[2] - box[0])
            y = (box[1] + box[3]) / 2 + dy * (box[3] - box[1])
            corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            clipped = [min(max(value, 0), SIZE[1 - axis % 2]) for axis, value in enumerate(corners)]
            found.append((score, label, [value / scale for value, scale in zip(clipped, SCALE, strict=True)]))
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box in sorted(found, key=lambda item: -item[0]):
        if all(label != other or scalar_iou(box, taken) <= rules.nms_threshold for _, other, taken in kept):
            kept.append((score, label, box))
    return kept[: rules.max_detections]


def scalar_iou(a: list[float], b: list[float]) -> float:
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


@pytest.mark.parametrize("boxes", [CLASSES, 1])
@pytest.mark.parametrize("most", [10, 100])
def test_detections_are_the_scalar_rules(boxes: int, most: int) -> None:
    raw, rules = predictions(boxes=boxes), DetectionRules(max_detections=most)
    found, scores, labels = select_detections(raw, SIZE, SCALE, rules=rules)
    expected = scalar_detections(raw, rules)
    assert labels.tolist() == [label for _, label, _ in expected]
    torch.testing.assert_close(scores, torch.tensor([score for score, _, _ in expected]))
    torch.testing.assert_close(found, torch.tensor([box for _, _, box in expected]), atol=1e-4, rtol=1e-5)


def test_soft_suppression_keeps_more_with_lower_scores() -> None:
    raw = predictions()
    hard = select_detections(raw, SIZE, rules=DetectionRules(max_detections=1000))
    soft = select_detections(raw, SIZE, rules=DetectionRules(max_detections=1000, soft_nms=True))
    assert len(soft[0]) > len(hard[0])
    assert (soft[1][1:] <= soft[1][:-1]).all()
    assert len(select_detections(raw, SIZE, rules=DetectionRules(max_detections=7, soft_nms=True))[0]) == 7


@pytest.mark.parametrize("soft", [False, True])
def test_nothing_above_the_threshold_and_no_regions_give_nothing(soft: bool) -> None:
    rules = DetectionRules(score_threshold=1.0, soft_nms=soft)
    for raw in (predictions(), predictions(0)):
        boxes, scores, labels = select_detections(raw, SIZE, SCALE, rules=rules)
        assert (boxes.shape, scores.shape, labels.shape) == ((0, 4), (0,), (0,))


def test_more_than_ten_thousand_candidates() -> None:
    raw = predictions(4000)
    found, scores, _ = select_detections(raw, SIZE, rules=DetectionRules(score_threshold=0.0))
    assert len(found) == 100
    assert (scores[1:] <= scores[:-1]).all()


@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_mask_probabilities_do_not_depend_on_the_chunks(count: int) -> None:
    """Two heads: the mean of their probabilities in the region's class."""
    rois = torch.arange(count * 5.0).view(count, 5)
    labels = torch.arange(count) % 3
    seen = []

    def extract(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        return part[:, :1, None, None].expand(-1, 3, 4, 4) * torch.tensor([1.0, 2, 3])[:, None, None]

    grids = chunked_mask_probabilities(extract, rois, labels, lambda x: [x / 10, -x / 20], grid_size=4, chunk=3)
    assert grids.shape == (count, 4, 4)
    assert sum(seen) == count
    assert all(size <= 3 for size in seen)
    for i in range(count):
        x = rois[i, 0] * (i % 3 + 1)
        torch.testing.assert_close(grids[i], (((x / 10).sigmoid() + (-x / 20).sigmoid()) / 2).expand(4, 4))
