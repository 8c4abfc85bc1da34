"""The CPU's own features of regions, and suppression, in float32: how they are called.

They have no gradients of their own: `ops.regions.align` has. What they are given is checked there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from .library import run

MULTIPLE = 16
"""What numbers of channels are multiples of."""


def align_regions(
    maps: Sequence[Tensor],
    scales: Sequence[float],
    rois: Tensor,
    levels: Tensor,
    values: Tensor,
    size: int,
    *,
    channels_first: bool,
    backward: bool,
) -> None:
    """Features of regions from maps into `values`; or, backward, adds the gradients `values` to the maps' own.

    Args:
        maps: (B, h, w, C) each, float32 and contiguous.
        scales: cells to a pixel of each map.
        rois: (n, 5), rows (image, x0, y0, x1, y1) in pixels, float32 and contiguous.
        levels: (n,), which map each looks at, int64.
        values: (n, size, size, C), or (n, C, size, size) if `channels_first`, float32 and contiguous.
    """
    count = len(maps)
    run(
        "swin_roi_align",
        (ctypes.c_void_p * count)(*(one.data_ptr() for one in maps)),
        (ctypes.c_int64 * (2 * count))(*(side for one in maps for side in one.shape[1:3])),
        (ctypes.c_float * count)(*scales),
        count,
        rois.data_ptr(),
        levels.data_ptr(),
        values.data_ptr(),
        len(rois),
        maps[0].shape[3],
        size,
        channels_first,
        backward,
    )


def suppress_sorted(boxes: Tensor, groups: Tensor, threshold: float, most: int) -> Tensor:
    """Indices of the first `most` boxes that none before them, of their group, overlaps by an IoU above `threshold`.

    Args:
        boxes: (n, 4), best first, float32 and contiguous.
        groups: (n,), int64 from 0 on.
    """
    kept = torch.empty(min(len(boxes), most), dtype=torch.int64)
    count = ctypes.c_int64()
    group_count = int(groups.max()) + 1 if len(groups) else 0
    run(
        "swin_nms",
        boxes.data_ptr(),
        groups.data_ptr(),
        len(boxes),
        group_count,
        threshold,
        most,
        kept.data_ptr(),
        ctypes.addressof(count),
    )
    return kept[: count.value]
