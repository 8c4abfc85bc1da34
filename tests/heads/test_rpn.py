"""Region proposals: the head against torchvision's, proposals and losses against scalar code."""

import math

import pytest
import torch
from torchvision.models.detection.rpn import RPNHead as PeerHead

from swin_transformer_pytorch.heads import rpn
from swin_transformer_pytorch.heads.rpn import ProposalLimits, RPNHead, RPNOutputs, RPNRules
from swin_transformer_pytorch.ops.regions.anchors import grid_anchors
from swin_transformer_pytorch.ops.regions.instances import InstanceTargets

STRIDES = (4, 8, 16)
MAPS = ((12, 16), (6, 8), (3, 4))
COUNT = sum(3 * height * width for height, width in MAPS)


def outputs(batch: int = 1, seed: int = 0, spread: float = 1.0) -> RPNOutputs:
    generator = torch.Generator().manual_seed(seed)
    return RPNOutputs(
        logits=torch.randn(batch, COUNT, generator=generator) * spread,
        deltas=torch.randn(batch, COUNT, 4, generator=generator) * 0.3,
        map_sizes=MAPS,
    )


def objects(boxes: list[list[float]], size: tuple[int, int] = (48, 64)) -> InstanceTargets:
    return InstanceTargets(
        boxes_xyxy=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.zeros(len(boxes), dtype=torch.int64),
        masks=torch.zeros(len(boxes), *size, dtype=torch.uint8),
    )


def test_raw_predictions_are_torchvisions_to_the_bit() -> None:
    head, peer = RPNHead(8), PeerHead(8, 3)
    names = {"rpn_conv": "conv.0.0", "rpn_cls": "cls_logits", "rpn_reg": "bbox_pred"}
    state = {name: value + 0.1 * torch.randn_like(value) for name, value in head.state_dict().items()}
    head.load_state_dict(state)
    peer.load_state_dict({f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()})
    features = [torch.randn(2, 8, *size) for size in MAPS]
    raw = head(features)
    logits, deltas = peer(features)
    flat = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
    assert torch.equal(raw.logits, torch.cat(flat, dim=1))
    assert torch.equal(raw.deltas, torch.cat([x.permute(0, 2, 3, 1).reshape(2, -1, 4) for x in deltas], dim=1))
    assert raw.map_sizes == MAPS


def test_official_initialisation() -> None:
    head = RPNHead(128)
    assert head.rpn_conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not head.rpn_reg.bias.any()


def scalar_proposals(
    logits: list[float], deltas: list[list[float]], image_size: tuple[int, int], limits: ProposalLimits
) -> list[list[float]]:
    anchors = [level.tolist() for level in grid_anchors(MAPS, STRIDES)]
    found: list[tuple[float, int, list[float]]] = []
    start = 0
    for level, boxes in enumerate(anchors):
        scores = [1 / (1 + math.exp(-value)) for value in logits[start : start + len(boxes)]]
        order = list(range(len(boxes)))
        if len(boxes) > limits.per_level:
            order = sorted(order, key=lambda i: -scores[i])[: limits.per_level]
        for i in order:
            (x0, y0, x1, y1), (dx, dy, dw, dh) = boxes[i], deltas[start + i]
            w, h = (x1 - x0) * math.exp(dw), (y1 - y0) * math.exp(dh)
            x, y = (x0 + x1) / 2 + dx * (x1 - x0), (y0 + y1) / 2 + dy * (y1 - y0)
            corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            box = [min(max(value, 0), image_size[1 - axis % 2]) for axis, value in enumerate(corners)]
            found.append((scores[i], level, box))
        start += len(boxes)
    kept: list[tuple[float, int, list[float]]] = []
    for score, level, box in sorted(found, key=lambda item: -item[0]):
        if all(level != other or scalar_iou(box, taken) <= limits.nms_threshold for _, other, taken in kept):
            kept.append((score, level, box))
    return [box for _, _, box in kept[: limits.per_image]]


def scalar_iou(a: list[float], b: list[float]) -> float:
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union > 0 else 0.0


@pytest.mark.parametrize("per_image", [20, 1000])
def test_proposals_are_the_scalar_rules(per_image: int) -> None:
    raw = outputs(2)
    limits = ProposalLimits(per_level=50, per_image=per_image)
    sizes = [(48, 64), (41, 50)]
    found = RPNHead(1, rules=RPNRules(strides=STRIDES, inference=limits)).propose(raw, sizes, training=False)
    for boxes, logits, deltas, size in zip(found, raw.logits, raw.deltas, sizes, strict=True):
        expected = torch.tensor(scalar_proposals(logits.tolist(), deltas.tolist(), size, limits))
        torch.testing.assert_close(boxes, expected, atol=1e-3, rtol=1e-5)


def test_the_best_of_a_level_are_a_stable_sorts_with_ties_too() -> None:
    generator = torch.Generator().manual_seed(3)
    for spread in (0, 3, 1000):
        scores = torch.randint(0, spread + 1, (500,), generator=generator).float()
        values, index = rpn._best(scores, 60)
        expected_values, expected = scores.sort(descending=True, stable=True)
        assert torch.equal(index, expected[:60])
        assert torch.equal(values, expected_values[:60])
    assert torch.equal(rpn._best(scores, 500)[1], torch.arange(500))


def scalar_assignment(target: InstanceTargets) -> list[int]:
    anchors = torch.cat(grid_anchors(MAPS, STRIDES)).tolist()
    overlaps = [[scalar_iou(box, anchor) for anchor in anchors] for box in target.boxes_xyxy.tolist()]
    states = []
    for values in zip(*overlaps, strict=True):
        best = max(values)
        states.append(values.index(best) + 1 if best >= 0.7 else 0 if best < 0.3 else -1)
    for k, row in enumerate(overlaps):
        if max(row) >= 0.3:
            states = [k + 1 if abs(value - max(row)) < 1e-6 else s for value, s in zip(row, states, strict=True)]
    return states


def scalar_losses(
    raw: RPNOutputs, assigned: list[list[int]], targets: list[InstanceTargets], beta: float | None
) -> tuple[float, float]:
    """`assigned`: for each image and anchor object + 1, 0 or -1, everything being sampled."""
    anchors = torch.cat(grid_anchors(MAPS, STRIDES)).tolist()
    classification = regression = 0.0
    samples = 0
    for image, states in enumerate(assigned):
        samples += max(sum(s > 0 for s in states), 1) + max(sum(s == 0 for s in states), 1)
        for i, state in enumerate(states):
            if state < 0:
                continue
            logit = raw.logits[image, i].item()
            classification += math.log1p(math.exp(-logit if state else logit))
            if state:
                (x0, y0, x1, y1), (a, b, c, d) = anchors[i], targets[image].boxes_xyxy[state - 1].tolist()
                w, h = x1 - x0, y1 - y0
                wanted = [
                    ((a + c) / 2 - (x0 + x1) / 2) / w,
                    ((b + d) / 2 - (y0 + y1) / 2) / h,
                    math.log((c - a) / w),
                    math.log((d - b) / h),
                ]
                for value, goal in zip(raw.deltas[image, i].tolist(), wanted, strict=True):
                    off = abs(value - goal)
                    regression += off if beta is None else 0.5 * off**2 / beta if off < beta else off - 0.5 * beta
    return classification / samples, regression / samples


@pytest.mark.parametrize(("kind", "beta"), [("l1", None), ("smooth_l1", 1 / 9)])
def test_losses_are_the_scalar_formulas(kind: str, beta: float | None) -> None:
    raw = outputs(2, seed=4)
    targets = [objects([[3.0, 4, 40, 30], [20, 10, 60, 45], [50, 3, 51, 4]]), objects([])]
    everything = RPNRules(strides=STRIDES, num_samples=2 * COUNT, regression=kind)
    assigned = [scalar_assignment(targets[0]), [0] * COUNT]
    losses = RPNHead(1, rules=everything).losses(raw, targets, [(48, 64)] * 2)
    classification, regression = scalar_losses(raw, assigned, targets, beta)
    assert losses["loss_rpn_cls"].item() == pytest.approx(classification, rel=1e-5)
    assert losses["loss_rpn_bbox"].item() == pytest.approx(regression, rel=1e-4)


def test_at_most_the_samples_asked_for_count() -> None:
    """All logits equal: the loss of each sample is ln 2, whatever was drawn."""
    raw = RPNOutputs(logits=torch.zeros(1, COUNT), deltas=torch.zeros(1, COUNT, 4), map_sizes=MAPS)
    rules = RPNRules(strides=STRIDES, num_samples=32)
    losses = RPNHead(1, rules=rules).losses(raw, [objects([[0.0, 0, 40, 40]])], [(48, 64)])
    assert losses["loss_rpn_cls"].item() == pytest.approx(math.log(2), rel=1e-5)


def gradient_of_logits(rules: RPNRules, image_size: tuple[int, int]) -> torch.Tensor:
    logits = torch.zeros(1, COUNT, requires_grad=True)
    raw = RPNOutputs(logits=logits, deltas=torch.zeros(1, COUNT, 4, requires_grad=True), map_sizes=MAPS)
    losses = RPNHead(1, rules=rules).losses(raw, [objects([], image_size)], [image_size])
    (losses["loss_rpn_cls"] + losses["loss_rpn_bbox"]).backward()
    assert logits.grad is not None
    return logits.grad[0]


def test_cells_of_the_batchs_padding_are_not_learnt_from() -> None:
    rules = RPNRules(strides=STRIDES, num_samples=2 * COUNT, size_divisor=16)
    learnt = gradient_of_logits(rules, (30, 33)) != 0
    expected = []
    for (height, width), stride in zip(MAPS, STRIDES, strict=True):
        expected += [y * stride < 32 and x * stride < 48 for y in range(height) for x in range(width) for _ in range(3)]
    assert learnt.tolist() == expected


def test_a_cascade_learns_from_anchors_inside_the_image_only() -> None:
    rules = RPNRules(strides=STRIDES, num_samples=2 * COUNT, inside_only=True)
    learnt = gradient_of_logits(rules, (48, 60)) != 0
    anchors = torch.cat(grid_anchors(MAPS, STRIDES))
    expected = [x0 >= 0 and y0 >= 0 and x1 < 60 and y1 < 48 for x0, y0, x1, y1 in anchors.tolist()]
    assert learnt.tolist() == expected
    assert learnt.any()


def test_an_image_smaller_than_every_anchor_gives_losses_of_zero_with_gradients() -> None:
    assert not gradient_of_logits(RPNRules(strides=STRIDES, inside_only=True), (8, 8)).any()


def test_half_precision_features_give_float32_predictions() -> None:
    head = RPNHead(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = head([torch.randn(1, 8, *size) for size in MAPS])
    assert raw.logits.dtype == raw.deltas.dtype == torch.float32
