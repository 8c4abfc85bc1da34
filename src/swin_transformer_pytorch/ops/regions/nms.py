"""Non-maximum suppression within groups (classes, or levels of the feature pyramid)."""

from __future__ import annotations

import torch
import torchvision
from jaxtyping import Float, Int
from torch import Tensor

from ..attention import choose_implementation
from ..cpu.regions import suppress_sorted
from ..plain import is_transformed

SPLIT_AT = 10_000
"""From this many boxes on, each group is suppressed by itself."""


def batched_nms(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    groups: Int[Tensor, " n"],
    threshold: float,
    most: int | None = None,
) -> Int[Tensor, " kept"]:
    """Indices of the boxes that no better box of their group overlaps by an IoU above `threshold`, best first.

    With `most`, the best of them alone, that many at most: a CPU with the kernel looks at no box after these.

    Groups are kept apart by moving each by (largest coordinate + 1) times its number, as the official code does: its
    rounding decides about overlaps near the threshold. Boxes of equal score keep their order.
    """
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    boxes = boxes.float()
    moved = boxes + (groups * (boxes.max() + 1))[:, None]
    # Moved groups cannot overlap where no coordinate is negative, so one by one they give the same; a CPU, whose
    # suppression takes the square of the number of boxes, then gains by small groups, a GPU by one call.
    apart = len(boxes) >= SPLIT_AT or (boxes.device.type == "cpu" and bool(boxes.min() >= 0))
    if _takes(boxes, groups):
        order = scores.float().argsort(descending=True, stable=True)
        same = groups[order] if apart else torch.zeros_like(groups)
        limit = len(boxes) if most is None else most
        return order[suppress_sorted(moved[order], same, threshold, limit)]
    if not apart:
        return torchvision.ops.nms(moved, scores.float(), threshold)[:most]
    order = groups.argsort(stable=True)
    sizes = groups[order].unique_consecutive(return_counts=True)[1].tolist()
    kept = [
        members[torchvision.ops.nms(moved[members], scores[members].float(), threshold)]
        for members in order.split(sizes)
    ]
    together = torch.cat(kept).sort().values
    return together[scores[together].argsort(descending=True, stable=True)][:most]


def _takes(boxes: Tensor, groups: Tensor) -> bool:
    """Whether the CPU's own suppression takes them; groups are numbered from 0, and few beside the boxes' memory."""
    if torch.compiler.is_compiling() or is_transformed() or torch._C._len_torch_dispatch_stack():
        return False
    if type(boxes) is not Tensor or boxes.device.type != "cpu" or choose_implementation("cpu", training=False) != "cpu":
        return False
    least, largest = (int(one) for one in groups.aminmax())
    return groups.dtype == torch.int64 and least >= 0 and largest < 1 << 16
