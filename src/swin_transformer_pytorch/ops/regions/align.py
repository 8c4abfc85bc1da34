"""Features of regions from the maps of a pyramid (arXiv 1703.06870, section 3): all levels in one pass on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..attention import choose_implementation
from ..cpu.regions import MULTIPLE, align_regions
from ..plain import is_transformed


def align_levels(
    maps: Sequence[Float[Tensor, "B C _ _"]],
    strides: Sequence[int],
    rois: Float[Tensor, "n 5"],
    levels: Int[Tensor, " n"],
    size: int,
    *,
    flat: bool = False,
) -> Float[Tensor, "n C size size"]:
    """`roi_align` of each region on its own map, with as many samples a cell as the region has places there.

    Computed in float32, of the maps' type. On a CPU that has the kernel, all levels at once, channels last in memory
    (unless `flat`, for layers that take the regions' values as one vector).

    Args:
        maps: one for each of `strides`, finest first.
        strides: pixels to a cell of each map.
        rois: rows (image, x0, y0, x1, y1) in pixels.
        levels: which map each region looks at.
        size: cells a side.
    """
    dtype = maps[0].dtype
    maps = [one.float() for one in maps[: len(strides)]]
    if not _takes(maps, rois):
        return _by_level(maps, strides, rois, levels, size).to(dtype)
    if len(rois) and not (rois[:, 0].min() >= 0 and rois[:, 0].max() < len(maps[0])):
        raise ValueError(f"regions are of images {rois[:, 0].aminmax()}; there are {len(maps[0])}")
    scales = tuple(1 / stride for stride in strides)
    inputs = (rois.contiguous(), levels.contiguous(), scales, size, flat)
    if torch.is_grad_enabled() and any(one.requires_grad for one in maps):
        out: Tensor = _Align.apply(*inputs, *maps)
    else:
        out = _align(*inputs, *maps)
    return out.to(dtype)


def _takes(maps: Sequence[Tensor], rois: Tensor) -> bool:
    if torch.compiler.is_compiling() or is_transformed() or torch._C._len_torch_dispatch_stack():
        return False
    ordinary = all(type(one) in (Tensor, nn.Parameter) and one.device.type == "cpu" for one in (*maps, rois))
    if not ordinary or rois.requires_grad or rois.dtype != torch.float32:
        return False
    if maps[0].shape[1] % MULTIPLE or any(not one.numel() for one in maps):
        return False
    return choose_implementation("cpu", training=False) == "cpu"


def _by_level(
    maps: Sequence[Tensor], strides: Sequence[int], rois: Tensor, levels: Tensor, size: int
) -> Float[Tensor, "n C size size"]:
    pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], size, size)
    for level, stride in enumerate(strides):
        index = (levels == level).nonzero()[:, 0]
        # The finest is never left out: even without any region the result hangs on the maps, for the gradients.
        if len(index) == 0 and level > 0:
            continue
        part = torchvision.ops.roi_align(
            maps[level], rois[index], size, spatial_scale=1 / stride, sampling_ratio=-1, aligned=True
        )
        if len(index) == len(rois):
            return part
        pooled[index] = part
    return pooled


def _align(rois: Tensor, levels: Tensor, scales: Sequence[float], size: int, flat: bool, *maps: Tensor) -> Tensor:
    channels = maps[0].shape[1]
    shape = (channels, size, size) if flat else (size, size, channels)
    out = rois.new_empty(len(rois), *shape)
    in_rows = [one.permute(0, 2, 3, 1).contiguous() for one in maps]
    align_regions(in_rows, scales, rois, levels, out, size, channels_first=flat, backward=False)
    return out if flat else out.permute(0, 3, 1, 2)


class _Align(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rois: Tensor, levels: Tensor, scales: Sequence[float], size: int, flat: bool, *maps: Tensor
    ) -> Tensor:
        ctx.save_for_backward(rois, levels)
        ctx.scales, ctx.size, ctx.flat = scales, size, flat
        ctx.shapes = [one.shape for one in maps]
        return _align(rois, levels, scales, size, flat, *maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rois, levels = ctx.saved_tensors
        grad = grad.contiguous() if ctx.flat else grad.permute(0, 2, 3, 1).contiguous()
        grads = [rois.new_zeros(batch, height, width, channels) for batch, channels, height, width in ctx.shapes]
        align_regions(grads, ctx.scales, rois, levels, grad, ctx.size, channels_first=ctx.flat, backward=True)
        return (None,) * 5 + tuple(one.permute(0, 3, 1, 2) for one in grads)
