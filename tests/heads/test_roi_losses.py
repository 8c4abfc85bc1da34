"""What regions learn and their losses, against scalar code."""

import math
from typing import Any

import pytest
import torch

from swin_transformer_pytorch.heads.roi_losses import (
    BoxStage,
    RegionSample,
    box_losses,
    mask_loss,
    refine_boxes,
    refine_samples,
    sample_regions,
)
from swin_transformer_pytorch.ops.regions.boxes import decode_boxes
from swin_transformer_pytorch.ops.regions.instances import InstanceTargets
from swin_transformer_pytorch.ops.regions.masks import crop_masks

CLASSES = 4
SIZE = (60, 80)


def objects(boxes: list[list[float]], labels: list[int]) -> InstanceTargets:
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[int(y0) : math.ceil((y0 + y1) / 2), int(x0) : math.ceil(x1)] = 1
    return InstanceTargets(
        boxes_xyxy=torch.tensor(boxes).reshape(-1, 4), labels=torch.tensor(labels, dtype=torch.int64), masks=masks
    )


TWO = objects([[10.0, 10, 40, 50], [30, 5, 70, 30]], [2, 0])
NONE = objects([], [])
PROPOSALS = torch.tensor(
    [[11.0, 12, 41, 49], [0, 0, 8, 8], [31, 5, 69, 31], [50, 40, 79, 59], [12, 10, 40, 50], [5, 5, 75, 55]]
)


def sampled(targets: InstanceTargets = TWO, *, num: int = 512, **stage: Any) -> RegionSample:
    return sample_regions(PROPOSALS, targets, stage=BoxStage(**stage), num_classes=CLASSES, num_samples=num)


def test_objects_come_first_each_its_own_then_proposals_by_overlap() -> None:
    sample = sampled()
    assert torch.equal(sample.positive_boxes, torch.cat([TWO.boxes_xyxy, PROPOSALS[[0, 2, 4]]]))
    assert sample.matched_indices.tolist() == [0, 1, 0, 1, 0]
    assert sample.from_targets.tolist() == [True, True, False, False, False]
    assert sample.labels.tolist() == [2, 0, 2, 0, 2, 4, 4, 4]
    assert torch.equal(sample.matched_boxes, TWO.boxes_xyxy[[0, 1, 0, 1, 0]])
    assert torch.equal(sample.boxes[5:], PROPOSALS[[1, 3, 5]])


def test_equal_objects_are_each_their_own() -> None:
    twins = objects([[10.0, 10, 40, 50], [10, 10, 40, 50]], [1, 3])
    sample = sampled(twins)
    assert sample.matched_indices[:2].tolist() == [0, 1]
    assert sample.labels[:2].tolist() == [1, 3]


def test_low_quality_gives_an_object_its_best_region_although_another_overlaps_it_more() -> None:
    """Both objects overlap the only proposal; the last one in order takes it."""
    targets = objects([[10.0, 10, 40, 50], [10, 10, 40, 45]], [1, 3])
    proposal = torch.tensor([[10.0, 10, 40, 49]])
    for low_quality, expected in ((True, 1), (False, 0)):
        sample = sample_regions(
            proposal, targets, stage=BoxStage(low_quality=low_quality), num_classes=CLASSES, num_samples=512
        )
        assert sample.matched_indices.tolist() == [0, 1, expected]


def test_a_quarter_at_most_is_positive() -> None:
    sample = sampled(num=8)
    assert len(sample.matched_indices) == 2
    assert len(sample.boxes) == 5
    assert sample.labels[2:].tolist() == [4, 4, 4]


def test_without_objects_all_is_background() -> None:
    sample = sampled(NONE)
    assert len(sample.matched_indices) == 0
    assert sample.labels.tolist() == [4] * 6
    nothing = sample_regions(torch.zeros(0, 4), NONE, stage=BoxStage(), num_classes=CLASSES, num_samples=8)
    assert len(nothing.boxes) == 0


def raw(samples: list[RegionSample], boxes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    count = sum(len(sample.boxes) for sample in samples)
    logits = torch.randn(count, CLASSES + 1, generator=generator)
    return logits, torch.randn(count, boxes, 4, generator=generator)


def scalar_box_losses(
    logits: torch.Tensor, deltas: torch.Tensor, samples: list[RegionSample], stage: BoxStage
) -> tuple[float, float]:
    classification = regression = 0.0
    row = 0
    for sample in samples:
        for i, label in enumerate(sample.labels.tolist()):
            values = logits[row].tolist()
            classification += math.log(sum(math.exp(value) for value in values)) - values[label]
            if label < CLASSES:
                predicted = deltas[row, label if deltas.shape[1] > 1 else 0].tolist()
                box, goal = sample.boxes[i].tolist(), sample.matched_boxes[i].tolist()
                regression += scalar_regression(predicted, box, goal, stage)
            row += 1
    return classification / row, regression / row


def scalar_regression(predicted: list[float], box: list[float], goal: list[float], stage: BoxStage) -> float:
    w, h = box[2] - box[0], box[3] - box[1]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    if stage.regression == "giou":
        dx, dy, dw, dh = (value * std for value, std in zip(predicted, stage.stds, strict=True))
        new_w, new_h = w * math.exp(dw), h * math.exp(dh)
        a = [x + dx * w - new_w / 2, y + dy * h - new_h / 2, x + dx * w + new_w / 2, y + dy * h + new_h / 2]
        inter = max(min(a[2], goal[2]) - max(a[0], goal[0]), 0) * max(min(a[3], goal[3]) - max(a[1], goal[1]), 0)
        union = new_w * new_h + (goal[2] - goal[0]) * (goal[3] - goal[1]) - inter
        hull = (max(a[2], goal[2]) - min(a[0], goal[0])) * (max(a[3], goal[3]) - min(a[1], goal[1]))
        return 10 * (1 - (inter / union - (hull - union) / hull))
    wanted = [
        ((goal[0] + goal[2]) / 2 - x) / w,
        ((goal[1] + goal[3]) / 2 - y) / h,
        math.log((goal[2] - goal[0]) / w),
        math.log((goal[3] - goal[1]) / h),
    ]
    offs = [abs(p - g / std) for p, g, std in zip(predicted, wanted, stage.stds, strict=True)]
    return sum(off if stage.regression == "l1" else 0.5 * off**2 if off < 1 else off - 0.5 for off in offs)


@pytest.mark.parametrize("regression", ["l1", "smooth_l1", "giou"])
@pytest.mark.parametrize("boxes", [CLASSES, 1])
def test_box_losses_are_the_scalar_formulas(regression: Any, boxes: int) -> None:
    stage = BoxStage(regression=regression, stds=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5)
    samples = [sampled(), sampled(NONE)]
    logits, deltas = raw(samples, boxes)
    losses = box_losses(logits, deltas, samples, stage=stage)
    classification, expected = scalar_box_losses(logits, deltas, samples, stage)
    assert losses["loss_cls"].item() == pytest.approx(classification, rel=1e-5)
    assert losses["loss_bbox"].item() == pytest.approx(expected, rel=1e-4)


def test_mask_loss_is_the_scalar_formula() -> None:
    samples, targets = [sampled(), sampled(NONE), sampled()], [TWO, NONE, TWO]
    logits = torch.randn(10, CLASSES, 6, 6, generator=torch.Generator().manual_seed(1))
    total = 0.0
    row = 0
    for sample, target in zip(samples, targets, strict=True):
        wanted = crop_masks(target.masks, sample.matched_indices, sample.positive_boxes, 6).tolist()
        for grid, label in zip(wanted, sample.labels.tolist(), strict=False):
            for y in range(6):
                for x in range(6):
                    value = logits[row, label, y, x].item()
                    total += math.log1p(math.exp(-value if grid[y][x] else value))
            row += 1
    assert mask_loss(logits, samples, targets).item() == pytest.approx(total / (row * 36), rel=1e-5)


def test_without_positive_regions_losses_are_zero_and_have_gradients() -> None:
    samples = [sampled(NONE)]
    logits, deltas = (x.requires_grad_() for x in raw(samples))
    masks = torch.zeros(0, CLASSES, 6, 6, requires_grad=True)
    for regression in ("l1", "smooth_l1", "giou"):
        loss = box_losses(logits, deltas, samples, stage=BoxStage(regression=regression))["loss_bbox"]
        assert loss.item() == 0
        assert torch.autograd.grad(loss, deltas)[0].shape == deltas.shape
    loss = mask_loss(masks, samples, [NONE])
    assert loss.item() == 0
    loss.backward()
    assert masks.grad is not None


def test_refined_regions_take_their_class_and_leave_objects_out() -> None:
    sample, stage = sampled(), BoxStage(stds=(0.05, 0.05, 0.1, 0.1))
    logits, deltas = raw([sample])
    refined = refine_samples(sample, logits, deltas, stage=stage, image_size=SIZE)
    expected = []
    for i, label in enumerate(sample.labels.tolist()):
        if i < len(sample.from_targets) and sample.from_targets[i]:
            continue
        column = label if label < CLASSES else max(range(CLASSES), key=lambda c: logits[i, c].item())
        expected.append(decode_boxes(sample.boxes[i], deltas[i, column], stage.stds, SIZE))
    torch.testing.assert_close(refined, torch.stack(expected))


def test_boxes_of_one_regression_for_all_classes_ignore_the_class() -> None:
    deltas = torch.randn(6, 1, 4)
    refined = refine_boxes(PROPOSALS, torch.tensor([3, 0, 1, 2, 3, 3]), deltas, stds=(0.1,) * 4, image_size=SIZE)
    assert torch.equal(refined, decode_boxes(PROPOSALS, deltas[:, 0], (0.1,) * 4, SIZE))


def test_half_precision_predictions_give_float32_losses() -> None:
    samples = [sampled()]
    logits, deltas = raw(samples)
    losses = box_losses(logits.bfloat16(), deltas.bfloat16(), samples, stage=BoxStage())
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert mask_loss(torch.randn(5, CLASSES, 6, 6).bfloat16(), samples, [TWO]).dtype == torch.float32
