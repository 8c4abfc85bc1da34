"""Multi-scale deformable attention (arXiv 2010.04159, section 4.1): a query reads a few places of each map.

Plain PyTorch, for every device; what other implementations are tested against. Where gradients are wanted, values that
were read are read again on the way back: kept, they would be most of what a training step of Mask2Former stores. On
a CPU without gradients all that a query and head reads is one bag of an embedding, four cells a place: a third of
the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..sizes import Size
from .attention import without_autocast
from .plain import is_differentiated_again, is_ordinary, is_transformed, plain_gradients


def deformable_attention(
    value: Float[Tensor, "B N heads D"],
    map_sizes: Sequence[Size],
    locations: Float[Tensor, "B Q heads levels points 2"],
    weights: Float[Tensor, "B Q heads levels points"],
) -> Float[Tensor, "B Q channels"]:
    """For each query and head the weighted sum of values, each read bilinearly from a place of a map.

    Args:
        value: the tokens of all maps, one map after the other, each row by row.
        map_sizes: (height, width) of each map.
        locations: where to look, (x, y): 0 is the left or upper edge of a map, 1 the right or lower one, so that the
            centre of column i of w is at (i + 0.5) / w. Beyond the centres of the outer cells values fade to 0.
        weights: of each place; what they sum to is the caller's affair.

    Returns:
        heads * D channels, head by head, of the type of `value`; halves are computed in float32.

    Raises:
        ValueError: the maps are not those of `value` or `locations`.
    """
    batch, tokens, heads, channels = value.shape
    _check(tokens, map_sizes, locations.shape[3])
    if _fits_bags(value, locations, weights):
        return _bags(value, map_sizes, locations, weights)
    dtype = torch.promote_types(value.dtype, torch.float32)
    maps = value.to(dtype).permute(0, 2, 3, 1).split([height * width for height, width in map_sizes], dim=3)
    # To grid_sample -1 and 1 are the edges, and a head is an image.
    grids = (2 * locations.to(dtype) - 1).transpose(1, 2).flatten(0, 1)  # (B * heads, Q, levels, points, 2)
    shares = weights.to(dtype).transpose(1, 2).flatten(0, 1).unsqueeze(1)  # (B * heads, 1, Q, levels, points)
    weigh = _weighed if torch.compiler.is_compiling() or is_transformed() else _Weighed.apply
    sums = []
    for level, (of_map, (height, width)) in enumerate(zip(maps, map_sizes, strict=True)):
        of_heads = of_map.reshape(batch * heads, channels, height, width)
        sums.append(weigh(of_heads, grids[:, :, level], shares[:, :, :, level]))
    total = torch.stack(sums).sum(dim=0)
    return total.unflatten(0, (batch, heads)).flatten(1, 2).transpose(1, 2).to(value.dtype)


def _fits_bags(*arguments: Tensor) -> bool:
    """Whether they are plain numbers of a CPU without gradients, few enough for the bags' 32 bits."""
    value = arguments[0]
    if torch.compiler.is_compiling() or is_transformed() or not all(map(is_ordinary, arguments)):
        return False
    if torch.is_grad_enabled() and any(one.requires_grad for one in arguments):
        return False
    is_float32 = all(one.dtype == torch.float32 for one in arguments)
    return is_float32 and value.shape[1] < 1 << 24 and value.shape[:3].numel() < 1 << 31


def _bags(
    value: Float[Tensor, "B N heads D"],
    map_sizes: Sequence[Size],
    locations: Float[Tensor, "B Q heads levels points 2"],
    weights: Float[Tensor, "B Q heads levels points"],
) -> Float[Tensor, "B Q channels"]:
    """Each query and head as the weighted sum of rows of one table, the values of all tokens and heads."""
    batch, tokens, heads, channels = value.shape
    # Of each place the four cells around it.
    rows = torch.empty(*weights.shape, 4, dtype=torch.int32)
    shares = torch.empty(*weights.shape, 4)
    start = 0
    for level, (height, width) in enumerate(map_sizes):
        x, y = locations[:, :, :, level].mul(locations.new_tensor([width, height])).sub_(0.5).unbind(4)
        left, top = x.floor(), y.floor()
        x, y = x - left, y - top
        for corner in range(4):
            down, right = divmod(corner, 2)
            row, column = top + down, left + right
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            share = weights[:, :, :, level] * (y if down else 1 - y) * (x if right else 1 - x)
            shares[:, :, :, level, :, corner] = share.where(inside, 0)
            # In float32, whose whole numbers are exact for so many cells; what is beyond has no share of the first.
            rows[:, :, :, level, :, corner] = (row * width + column).where(inside, 0) + start
        start += height * width
    rows += torch.arange(batch, dtype=torch.int32).view(-1, 1, 1, 1, 1, 1) * tokens
    rows *= heads
    rows += torch.arange(heads, dtype=torch.int32).view(-1, 1, 1, 1)
    table = value.reshape(-1, channels)
    sums = F.embedding_bag(
        rows.flatten(3).flatten(0, 2), table, mode="sum", per_sample_weights=shares.flatten(3).flatten(0, 2)
    )
    return sums.view(batch, -1, heads * channels)


def _read(maps: Float[Tensor, "n D h w"], grid: Float[Tensor, "n Q points 2"]) -> Float[Tensor, "n D Q points"]:
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _weighed(
    maps: Float[Tensor, "n D h w"], grid: Float[Tensor, "n Q points 2"], shares: Float[Tensor, "n 1 Q points"]
) -> Float[Tensor, "n D Q"]:
    """The weighted sum of what is read from one map."""
    return (_read(maps, grid) * shares).sum(dim=3)


class _Weighed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, grid: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(maps, grid, shares)
        return _read(maps, grid).mul_(shares).sum(dim=3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, grid, shares = ctx.saved_tensors
        of_maps, of_grid, of_shares = ctx.needs_input_grad
        with without_autocast(grad.device.type):
            if is_differentiated_again(grad):
                return tuple(plain_gradients(_weighed, (maps, grid, shares), ctx.needs_input_grad, grad))
            grad = grad.unsqueeze(3)
            grad_maps = grad_grid = None
            grad_shares = _read(maps, grid).mul_(grad).sum(dim=1, keepdim=True) if of_shares else None
            if of_maps or of_grid:
                bilinear, zeros, aligned = 0, 0, False
                grad_maps, grad_grid = torch.ops.aten.grid_sampler_2d_backward(
                    grad * shares, maps, grid, bilinear, zeros, aligned, (of_maps, of_grid)
                )
            return grad_maps, grad_grid if of_grid else None, grad_shares


def _check(tokens: int, map_sizes: Sequence[Size], levels: int) -> None:
    if len(map_sizes) != levels:
        raise ValueError(f"{len(map_sizes)} map_sizes for locations in {levels} maps; give a size for each map")
    if sum(height * width for height, width in map_sizes) != tokens:
        raise ValueError(
            f"value has {tokens} tokens, and maps of {', '.join(f'{h} x {w}' for h, w in map_sizes)} have another "
            "number; give (height, width) of each map"
        )
