"""Anchors: the boxes that region proposals start from, unrounded, as the official detection code has them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...sizes import Size
from ..padding import padded_size


def base_anchors(stride: int, scale: float = 8, ratios: Sequence[float] = (0.5, 1.0, 2.0)) -> Float[Tensor, "a 4"]:
    """Boxes of `scale * stride` squared pixels around (0, 0), one for each ratio of height to width."""
    ratio = torch.tensor(ratios, dtype=torch.float32)
    height = stride * scale * ratio.sqrt()
    width = stride * scale / ratio.sqrt()
    return torch.stack([-width / 2, -height / 2, width / 2, height / 2], dim=1)


def grid_anchors(
    map_sizes: Sequence[Size], strides: Sequence[int], device: torch.device | str = "cpu"
) -> list[Float[Tensor, "_ 4"]]:
    """For each level the anchors of its cells, shape (height * width * 3, 4), ordered by (y, x, ratio).

    Cell (y, x) has the base anchors shifted by (x, y) times the level's stride: around the cell's top left corner.
    """
    levels = []
    for (height, width), stride in zip(map_sizes, strides, strict=True):
        base = base_anchors(stride).to(device)
        y = torch.arange(height, device=device, dtype=torch.float32) * stride
        x = torch.arange(width, device=device, dtype=torch.float32) * stride
        y, x = torch.meshgrid(y, x, indexing="ij")
        shifts = torch.stack([x, y, x, y], dim=-1)
        levels.append((shifts[:, :, None] + base).reshape(-1, 4))
    return levels


def usable_cells(
    map_sizes: Sequence[Size],
    strides: Sequence[int],
    image_size: Size,
    divisor: int,
    device: torch.device | str = "cpu",
) -> Bool[Tensor, " n"]:
    """For each anchor of `grid_anchors`, levels one after the other, whether its image has that cell at all.

    A batch is padded to its largest image; training leaves out the cells beyond an image's own size, which itself is
    padded to multiples of `divisor`.
    """
    padded = padded_size(image_size, divisor)
    levels = []
    for (height, width), stride in zip(map_sizes, strides, strict=True):
        cells = torch.zeros(height, width, 3, dtype=torch.bool, device=device)
        cells[: math.ceil(padded[0] / stride), : math.ceil(padded[1] / stride)] = True
        levels.append(cells.flatten())
    return torch.cat(levels)
