"""Where a cell of a map is, as channels: sines and cosines (arXiv 2005.12872, appendix A.4)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ..sizes import Size

_TEMPERATURE = 10000.0


def sine_position(map_size: Size, dim: int, like: Tensor) -> Float[Tensor, "cells dim"]:
    """The position of each cell, row by row: half of the channels tell its row, the others its column.

    Rows and columns are counted from 1 and brought to (0, 2 pi], so that the last ones of all maps are alike. Sines and
    cosines of falling frequency take turns.

    Args:
        map_size: (height, width) in cells.
        dim: channels, a multiple of 4.
        like: whose device and type the result has; halves are computed in float32.
    """
    height, width = map_size
    rows, columns = (_of_side(side, dim // 2, like) for side in (height, width))
    both = torch.cat([rows[:, None].expand(-1, width, -1), columns.expand(height, -1, -1)], dim=2)
    return both.flatten(0, 1).to(like.dtype)


def _of_side(length: int, channels: int, like: Tensor) -> Float[Tensor, "length channels"]:
    dtype = torch.promote_types(like.dtype, torch.float32)
    place = torch.arange(1, length + 1, device=like.device, dtype=dtype) / (length + 1e-6) * (2 * math.pi)
    exponents = torch.arange(0, channels, 2, device=like.device, dtype=dtype) / channels
    angles = place[:, None] / _TEMPERATURE**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
