"""Which object each box learns, and which boxes the loss looks at."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .boxes import pairwise_iou

IGNORED = -1
BACKGROUND = 0


@torch.no_grad()
def assign(
    boxes: Float[Tensor, "n 4"],
    target_boxes: Float[Tensor, "m 4"],
    *,
    positive: float,
    negative: float,
    minimum: float = 0.0,
    low_quality: bool = False,
) -> Int[Tensor, " n"]:
    """For each box: k + 1 for object k, 0 for background, -1 for neither.

    A box is background where its largest IoU is below `negative`, and its best object's where that is at least
    `positive`. With `low_quality`, an object whose own best IoU is at least `minimum` takes every box that reaches
    it, whatever the box had before; of several objects that do, the last has it (arXiv 1506.01497, section 3.1.2).
    """
    if len(target_boxes) == 0 or len(boxes) == 0:
        return torch.full((len(boxes),), BACKGROUND, dtype=torch.int64, device=boxes.device)
    overlaps = pairwise_iou(target_boxes, boxes)
    best, best_object = overlaps.max(dim=0)
    assignment = torch.full_like(best_object, IGNORED)
    assignment[best < negative] = BACKGROUND
    assignment = torch.where(best >= positive, best_object + 1, assignment)
    if low_quality:
        reached = overlaps.amax(dim=1, keepdim=True)
        ties = (overlaps == reached) & (reached >= minimum)
        number = torch.arange(1, len(target_boxes) + 1, device=boxes.device)[:, None]
        last = torch.where(ties, number, 0).amax(dim=0)
        assignment = torch.where(last > 0, last, assignment)
    return assignment


def sample(
    assignment: Int[Tensor, " n"], num: int, positive_fraction: float, generator: torch.Generator | None = None
) -> tuple[Int[Tensor, " p"], Int[Tensor, " q"]]:
    """Indices of at most `num` boxes, drawn at random: positives, at most that fraction, and background for the rest.

    Too few positives are made up for by background; too little background by nothing.
    """
    positives = _draw((assignment > BACKGROUND).nonzero()[:, 0], int(num * positive_fraction), generator)
    negatives = _draw((assignment == BACKGROUND).nonzero()[:, 0], num - len(positives), generator)
    return positives, negatives


def _draw(indices: Int[Tensor, " n"], most: int, generator: torch.Generator | None) -> Int[Tensor, " k"]:
    if len(indices) <= most:
        return indices
    device = generator.device if generator is not None else indices.device
    drawn = torch.randperm(len(indices), generator=generator, device=device)[:most]
    return indices[drawn.to(indices.device)]
