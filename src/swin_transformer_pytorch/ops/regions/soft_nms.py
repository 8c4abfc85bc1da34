"""Soft non-maximum suppression: an overlapping box loses score instead of disappearing."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def soft_nms(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    groups: Int[Tensor, " n"],
    *,
    iou_threshold: float = 0.3,
    min_score: float = 1e-3,
    max_kept: int | None = None,
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Linear soft-NMS (arXiv 1704.04503, equation 2) in each group, with mmcv's defaults.

    Takes the best box of a group again and again; every other box of the group whose IoU with it is at least
    `iou_threshold` has its score multiplied by 1 - IoU, and is out once it falls below `min_score`. The best box itself
    is never measured against `min_score`, so that each group keeps one. Equal scores: the lowest index first.

    All groups take their best at the same time, in rows of one matrix, so that the loop is as long as the largest
    group and not as there are boxes.

    Args:
        boxes: corners (x0, y0, x1, y1).
        groups: boxes of different groups (classes, say) never touch each other.
        max_kept: stop once these many are sure to be the best of all; None for every box that stays.

    Returns:
        Indices into `boxes`, and their decayed scores, best first.
    """
    if len(boxes) == 0 or max_kept == 0:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device), scores[:0]
    slots = _rows_of_groups(groups)  # (groups, width)
    filled = slots >= 0
    alive = scores[slots.clamp(min=0)].masked_fill(~filled, -1.0)
    corners = boxes[slots.clamp(min=0)]  # (groups, width, 4)
    areas = (corners[..., 2] - corners[..., 0]) * (corners[..., 3] - corners[..., 1])
    rows = torch.arange(len(slots), device=boxes.device)
    picked_slots, picked_scores = [], []
    # Scores only fall, so that a group's picks fall too: its first `max_kept` hold all that can be among the best.
    for _ in range(slots.shape[1] if max_kept is None else min(max_kept, slots.shape[1])):
        best, column = alive.max(dim=1)
        picked_slots.append(torch.where(best >= 0, slots[rows, column], -1))
        picked_scores.append(best)
        alive[rows, column] = -1.0
        overlap = _iou_with_rows(corners, areas, corners[rows, column], areas[rows, column])
        decay = torch.where(overlap >= iou_threshold, 1 - overlap, 1.0)
        alive = torch.where(alive >= 0, alive * decay, alive)
        alive = alive.masked_fill(alive < min_score, -1.0)
        if bool((alive < 0).all()):
            break
    kept, kept_scores = torch.cat(picked_slots), torch.cat(picked_scores)
    kept, kept_scores = kept[kept >= 0], kept_scores[kept >= 0]
    by_index = kept.argsort()  # so that equal scores of different groups come in the order of the boxes
    kept, kept_scores = kept[by_index], kept_scores[by_index]
    order = kept_scores.argsort(descending=True, stable=True)[:max_kept]
    return kept[order], kept_scores[order]


def _rows_of_groups(groups: Int[Tensor, " n"]) -> Int[Tensor, "groups width"]:
    """The indices of each group's boxes as one row, in rising order, -1 where a row has no more."""
    _, row, sizes = groups.unique(return_inverse=True, return_counts=True)
    order = row.argsort(stable=True)
    starts = sizes.cumsum(0) - sizes
    place = torch.arange(len(groups), device=groups.device) - starts[row[order]]
    slots = torch.full((len(sizes), int(sizes.max())), -1, dtype=torch.int64, device=groups.device)
    slots[row[order], place] = order
    return slots


def _iou_with_rows(
    corners: Float[Tensor, "g w 4"],
    areas: Float[Tensor, "g w"],
    picked: Float[Tensor, "g 4"],
    picked_areas: Float[Tensor, " g"],
) -> Float[Tensor, "g w"]:
    """IoU of each row's boxes with the row's picked one; 0 where both are empty."""
    low = torch.maximum(corners[..., :2], picked[:, None, :2])
    high = torch.minimum(corners[..., 2:], picked[:, None, 2:])
    sides = (high - low).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    union = areas + picked_areas[:, None] - shared
    return torch.where(union > 0, shared / union, 0.0)
