"""A 3x3 convolution over feature maps of several sizes, resized to one: where UPerNet spends most of its time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..sizes import Size
from .convolution import convolve, has_packed_convolution
from .linear import linear
from .plain import is_transformed
from .resize_matrix import resize_matrix


def convolve_levels(
    levels: Sequence[Float[Tensor, "B _C _H _W"]],
    weight: Float[Tensor, "D C_all 3 3"],
    bias: Float[Tensor, " D"] | None = None,
) -> Float[Tensor, "B D H W"]:
    """The convolution, padded by 1, of all levels resized to the first one's size and concatenated.

    A resize is linear, so on a CPU a coarser level is convolved at its own size (`convolve_resized`) where that saves
    work: no resized copy exists then, and UPerNet's takes less than half the time at 512x512 pixels. Traced graphs
    and GPUs hold the plain form.

    Args:
        levels: finest first.
        weight: its input channels are those of all levels, in order.
        bias: added to each output.
    """
    size = (levels[0].shape[2], levels[0].shape[3])
    parts = list(zip(levels, weight.split([level.shape[1] for level in levels], dim=1), strict=True))
    # Winograd's form has a quarter of the multiplications, but not a quarter of the time.
    saved = 3 if has_packed_convolution(parts[0][1]) else 1
    coarse = [_pays(level, size, saved) for level in levels]
    plain = [(level, part) for (level, part), pays in zip(parts, coarse, strict=True) if not pays]
    maps, weights = zip(*plain, strict=True)  # the first level is among them
    out = convolve(concatenate_levels(maps), torch.cat(weights, dim=1), bias)
    for (level, part), pays in zip(parts, coarse, strict=True):
        if pays:
            out = out + convolve_resized(level, part, size)
    return out


def concatenate_levels(levels: Sequence[Float[Tensor, "B _C _H _W"]]) -> Float[Tensor, "B C_all H W"]:
    """All levels, finest first, resized to the first one's size: what `convolve_levels` convolves."""
    size = (levels[0].shape[2], levels[0].shape[3])
    return torch.cat([levels[0], *(_resize(level, size) for level in levels[1:])], dim=1)


def convolve_resized(
    x: Float[Tensor, "B C h w"], weight: Float[Tensor, "D C 3 3"], size: Size
) -> Float[Tensor, "B D H W"]:
    """The convolution, padded by 1, of `x` resized to `size`, from products at the size of `x`.

    Tap (i, j) of the kernel adds the resized map, moved by (i - 1, j - 1), times weight[:, :, i, j]. The product with
    the weight is taken first, then rows and columns are resized and moved by one matrix each.
    """
    taps = linear(x.permute(0, 2, 3, 1), rows_of_taps(weight))
    return merge_taps(taps, size)


def rows_of_taps(weight: Float[Tensor, "D C 3 3"]) -> Float[Tensor, "D9 C"]:
    """The weight of a linear layer that gives all taps of a place: (3, 3, D) values, as `merge_taps` takes them."""
    return weight.permute(2, 3, 0, 1).reshape(-1, weight.shape[1])


def merge_taps(taps: Float[Tensor, "B h w D9"], size: Size) -> Float[Tensor, "B D H W"]:
    """Each tap's map resized to `size`, moved by its place in the kernel, and summed; channels-last in memory."""
    batch, height, width, values = taps.shape
    dim = values // 9
    columns, rows = _resize_and_move(width, size[1], taps), _resize_and_move(height, size[0], taps)
    by_row = taps.view(batch, height, width, 3, 3, dim).permute(0, 3, 1, 4, 2, 5)  # (B, tap row, h, tap column, w, D)
    wide = columns @ by_row.reshape(batch, 3 * height, 3 * width, dim)  # (B, 3 h, W, D)
    return (rows @ wide.flatten(2)).view(batch, *size, dim).permute(0, 3, 1, 2)


def _resize_and_move(length: int, target: int, like: Tensor) -> Float[Tensor, "target taps_length"]:
    """Three matrices (target, length) side by side, one a tap: each resizes a row, and moves it by -1, 0 or 1."""
    resize = resize_matrix(length, target, like)
    padded = F.pad(resize, (0, 0, 1, 1))
    return torch.cat([padded[tap : tap + target] for tap in range(3)], dim=1).to(like.dtype)


def _pays(x: Float[Tensor, "B C h w"], size: Size, saved: int) -> bool:
    """Whether `convolve_resized` has fewer products than a convolution that saves a factor: its matrices are dense, and
    grow faster than the map."""
    channels, height, width = x.shape[1:]
    if torch.compiler.is_exporting() or is_transformed() or x.device.type != "cpu" or (height, width) == size:
        return False
    plain = 9 * channels * size[0] * size[1] // saved
    ours = 9 * height * width * (channels + size[1]) + 3 * height * size[0] * size[1]
    return ours < plain


def _resize(x: Float[Tensor, "B C h w"], size: Size) -> Float[Tensor, "B C H W"]:
    # A graph for all sizes has no branch on one.
    if not torch.compiler.is_exporting() and (x.shape[2], x.shape[3]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
