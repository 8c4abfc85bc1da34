"""Convolutions in their fastest form: weights packed once, ReLU taken in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, TypeGuard

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..heads.conv import ConvModule, FusedConvolution
from ..heads.upernet import LevelsConvolution, UPerHead
from ..ops import (
    convolve_packed,
    has_packed_convolution,
    is_plain,
    is_pointwise_convolution,
    is_usual_convolution,
    pack_kernel,
    panel_layout,
)
from ..ops.resized_convolution import concatenate_levels, merge_taps, rows_of_taps
from .linear import Fixed, FusedLinear, can_pack, refuse_derivatives

# A map that weights are packed for. Others work as well.
_PACKED_SIZE = (1, 64, 64)
# Levels of a pyramid, from the finest on, that are convolved at the size of the first: with Winograd's form a level of
# half the size takes no longer than at its own.
_FINE = 2


def is_convolution(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether `FastConvolution` may stand in a layer's place: it is a convolution and nothing else."""
    return is_plain(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


class FastConvolution(Fixed, FusedConvolution):
    """A convolution, and what is below 0 left out if asked: by this package's products or oneDNN's where they are.

    Attributes:
        form: "winograd" and "pointwise" are this package's, of 3x3 and of single places.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        self.out_channels, self.in_channels = layer.out_channels, layer.in_channels
        self.stride: list[int] = list(layer.stride)
        self.padding: list[int] = [int(side) for side in layer.padding]
        self.dilation: list[int] = list(layer.dilation)
        self.groups, self.kernel_size = layer.groups, layer.kernel_size
        self.example = torch.empty(0, dtype=weight.dtype, device=weight.device)
        self.form: Literal["winograd", "pointwise", "onednn", "plain"] = "plain"
        if is_usual_convolution(layer) and has_packed_convolution(weight):
            self.form, weight = "winograd", pack_kernel(weight)
            self.layout = panel_layout()
            bias = None if bias is None else bias.contiguous()
        elif is_pointwise_convolution(layer) and can_pack(weight):
            self.form, self.linear = "pointwise", FusedLinear(weight.flatten(1), bias)
        elif can_pack(weight):
            self.form, weight = "onednn", self._packed(weight)
        # Plain attributes: packed weights are opaque to state dicts and casts.
        self.weight = weight if self.form != "pointwise" else weight.new_empty(0)
        self.bias = bias

    def forward(self, x: Float[Tensor, "B C H W"], *, relu: bool = False) -> Float[Tensor, "B D h w"]:
        if self.form == "plain":
            out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
            return F.relu(out, inplace=True) if relu else out
        refuse_derivatives(x)
        x = self.in_its_dtype(x)
        if x.shape[1] != self.in_channels:
            raise ValueError(f"a convolution got {x.shape[1]} channels and takes {self.in_channels}")
        if self.form == "pointwise":
            out = self.linear(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
            return F.relu_(out) if relu else out
        if not x.numel():  # of nothing there are no products
            return x.new_empty(x.shape[0], self.out_channels, *self._out_size(x))
        if self.form == "winograd":
            return convolve_packed(x, self.weight, self.bias, relu=relu)
        x = x.contiguous(memory_format=torch.channels_last)
        convolve = torch.ops.mkldnn._convolution_pointwise
        settings = (self.padding, self.stride, self.dilation, self.groups)
        packed: Tensor = convolve(x, self.weight, self.bias, *settings, "relu" if relu else "none", [], "")
        return packed

    def __getstate__(self) -> dict[str, Any]:
        # What oneDNN has packed can be neither copied nor saved.
        return {**super().__getstate__(), **({"weight": self.weight.to_dense()} if self.form == "onednn" else {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.form == "onednn":
            self.weight = self._packed(self.weight)

    def _packed(self, weight: Tensor) -> Tensor:
        size = [_PACKED_SIZE[0], self.in_channels, *_PACKED_SIZE[1:]]
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            weight.contiguous(), self.padding, self.stride, self.dilation, self.groups, size
        )
        return packed

    def _out_size(self, x: Tensor) -> list[int]:
        form = zip(x.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        return [
            (side + 2 * pad - dilation * (kernel - 1) - 1) // step + 1 for side, kernel, step, pad, dilation in form
        ]


class FastLevels(Fixed, LevelsConvolution):
    """UPerNet's convolution of all levels together: the finest ones at the size of the first, the others at their own.

    As `ops.resized_convolution` does it, with weights packed.
    """

    def __init__(self, conv: nn.Conv2d, channels: int, *, relu: bool) -> None:
        super().__init__()
        self.relu = relu
        self.example = torch.empty(0, dtype=conv.weight.dtype, device=conv.weight.device)
        parts = conv.weight.detach().split(channels, dim=1)
        self.fine = FastConvolution(_with_weight(conv, torch.cat(parts[:_FINE], dim=1)))
        self.coarse = nn.ModuleList(FusedLinear(rows_of_taps(part), None) for part in parts[_FINE:])

    @classmethod
    def of(cls, head: UPerHead) -> Self:
        """From a head of which `is_levels_convolution` is true."""
        block = head.fpn_bottleneck
        assert isinstance(block, ConvModule)
        return cls(block.conv, head.channels, relu=block.activation)

    def forward(self, levels: Sequence[Float[Tensor, "B _C _H _W"]]) -> Float[Tensor, "B D H W"]:
        size = (levels[0].shape[2], levels[0].shape[3])
        out = self.fine(concatenate_levels(levels[:_FINE]))
        for level, taps in zip(levels[_FINE:], self.coarse, strict=True):
            out += merge_taps(taps(level.permute(0, 2, 3, 1)), size)
        return F.relu_(out) if self.relu else out


def is_levels_convolution(head: nn.Module) -> TypeGuard[UPerHead]:
    """Whether a head's `fpn_bottleneck` is one that `FastLevels` may stand for."""
    if not (is_plain(head, UPerHead) and is_plain(head.fpn_bottleneck, ConvModule)):
        return False
    block = head.fpn_bottleneck
    folded = block.bn is None and is_usual_convolution(block.conv)
    return folded and len(head.lateral_convs) + 1 > _FINE and can_pack(block.conv.weight)


def _with_weight(layer: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    """A 3x3 convolution with the bias of another and that weight."""
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    made.bias = layer.bias
    return made
