"""The geometry of shifted windows: partition and merge, the shift mask, and what the padding is.

Maps are channels-last, (B, H, W, C). Windows are listed row by row, and so are the tokens inside each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from ..sizes import Size
from .padding import padding

MASKED_SCORE = -100.0
"""Added to the score of two tokens that the cyclic shift brought together. The official value: V2's scores reach
116, so another one (minus infinity, or -200) would give other numbers than the published checkpoints."""


def pad_map(x: Shaped[Tensor, "B H W C"], multiple: Size) -> Shaped[Tensor, "B h w C"]:
    """A map padded with zeros, right and bottom, to multiples of `multiple`: the map itself if it needs none."""
    height, width = x.shape[1:3]
    bottom, right = padding(height, multiple[0]), padding(width, multiple[1])
    # A traced graph keeps the padding, lest it hold for the example's sizes alone; compilers fuse it.
    if torch.compiler.is_compiling() or bottom or right:
        return F.pad(x, (0, 0, 0, right, 0, bottom))
    return x


def partition(x: Shaped[Tensor, "B H W C"], window_size: Size) -> Shaped[Tensor, "B windows N C"]:
    """Cuts a map into windows of N tokens. H and W must be multiples of the window's height and width."""
    batch, height, width, channels = x.shape
    rows, columns = height // window_size[0], width // window_size[1]
    x = x.reshape(batch, rows, window_size[0], columns, window_size[1], channels)
    return x.transpose(2, 3).reshape(batch, rows * columns, window_size[0] * window_size[1], channels)


def merge(windows: Shaped[Tensor, "B windows N C"], map_size: Size, window_size: Size) -> Shaped[Tensor, "B H W C"]:
    """The inverse of `partition`, for a map of `map_size` (H, W)."""
    batch, _, _, channels = windows.shape
    rows, columns = map_size[0] // window_size[0], map_size[1] // window_size[1]
    x = windows.reshape(batch, rows, columns, window_size[0], window_size[1], channels)
    return x.transpose(2, 3).reshape(batch, map_size[0], map_size[1], channels)


def _regions(size: int, window: int, shift: int, device: torch.device) -> Tensor:
    """For each position of the shifted axis, which of three runs it came from: (size,) integers."""
    position = torch.arange(size, device=device)
    return (position >= size - window).long() + (position >= size - shift).long()


def shift_mask(
    map_size: Size, window_size: Size, shift_size: Size, *, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "windows N N"]:
    """What is added to each window's scores: 0, or `MASKED_SCORE` between tokens that are no neighbours in the image.

    `map_size` is the padded map's, a multiple of the window's.
    """
    rows = _regions(map_size[0], window_size[0], shift_size[0], device)
    columns = _regions(map_size[1], window_size[1], shift_size[1], device)
    # An axis without a shift has no seam: its last window must not differ from the others.
    rows = rows if shift_size[0] else rows * 0
    columns = columns if shift_size[1] else columns * 0
    regions = partition((3 * rows[:, None] + columns)[None, ..., None], window_size)[0, ..., 0]  # (windows, N)
    apart = regions[:, :, None] != regions[:, None, :]
    return torch.zeros_like(apart, dtype=dtype).masked_fill(apart, MASKED_SCORE)


def relative_position_index(window_size: Size) -> Tensor:
    """Row of the bias table for each (query, key) pair of a window: (wh, ww, wh, ww) integers.

    The table's rows are the offsets query - key, first in height then in width, (2 wh - 1)(2 ww - 1) in all. The index
    of a smaller window is the slice [:h, :w, :h, :w] of this one: it picks the central part of the table.
    """
    height, width = window_size
    rows, columns = torch.arange(height), torch.arange(width)
    row_offset = rows[:, None] - rows + height - 1  # (wh, wh)
    column_offset = columns[:, None] - columns + width - 1  # (ww, ww)
    return row_offset[:, None, :, None] * (2 * width - 1) + column_offset[None, :, None, :]
