"""UPerNet's decode head (arXiv 1807.10221), and the auxiliary head beside it.

Parameters have the names of the authors' segmentation code, whose numerics these are. Every resize is bilinear with
`align_corners=False`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import is_plain, is_usual_convolution, replaceable
from ..ops.resized_convolution import concatenate_levels, convolve_levels
from .conv import ConvModule, convolved, init_normal


class LevelsConvolution(nn.Module):
    """What may stand in `fpn_bottleneck`'s place to take the levels as they are, before they are resized."""


class _PixelHead(nn.Module):
    """A head that ends in dropout and a classifier of each cell."""

    class_layers = ("conv_seg",)  # whose rows are classes

    def _end(self, channels: int, num_classes: int, dropout: float) -> None:
        """Made last, after what a head has before it."""
        self.dropout = nn.Dropout2d(dropout)
        self.channels = channels
        self.reset_classes(num_classes)

    def reset_classes(self, num_classes: int) -> None:
        """A classifier with random weights for that many classes."""
        layer = nn.Conv2d(self.channels, num_classes, 1)
        init_normal([layer], std=0.01)
        self.conv_seg = layer.to(next(self.parameters())).train(self.training)

    def _logits(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B classes H W"]:
        return convolved(self.conv_seg, self.dropout(x))


@replaceable
class UPerHead(_PixelHead):
    """Pyramid pooling on the last map, a feature pyramid over all, and one classifier on all its levels together.

    Args:
        in_channels: channels of each map, finest first.
        channels: of every level of the pyramid.
        num_classes: outputs for each cell.
        pool_scales: sides of the grids that the last map is pooled to.
        dropout: rate of whole channels before the classifier.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, num_classes: int, pool_scales: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        *finer, last = in_channels
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvModule(last, channels, 1, norm=True))
            for scale in pool_scales
        )
        self.bottleneck = ConvModule(last + len(pool_scales) * channels, channels, 3, norm=True)
        self.lateral_convs = nn.ModuleList(ConvModule(dim, channels, 1, norm=True) for dim in finer)
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3, norm=True) for _ in finer)
        self.fpn_bottleneck: ConvModule | LevelsConvolution = ConvModule(
            len(in_channels) * channels, channels, 3, norm=True
        )
        self._end(channels, num_classes, dropout)

    def forward(self, maps: Sequence[Float[Tensor, "B _C _H _W"]]) -> Float[Tensor, "B classes H W"]:
        """Logits of the size of the first map. `maps` are finest first, one for each of `in_channels`."""
        top = self._pool(maps[-1])
        levels = [top]
        for index in reversed(range(len(self.lateral_convs))):
            lateral = self.lateral_convs[index](maps[index])
            top = lateral + _resize(top, lateral)
            levels.insert(0, self.fpn_convs[index](top))
        return self._logits(self._fuse(levels))

    def _fuse(self, levels: Sequence[Float[Tensor, "B _C _H _W"]]) -> Float[Tensor, "B D H W"]:
        """`fpn_bottleneck` of all levels together."""
        block = self.fpn_bottleneck
        if is_plain(block, ConvModule) and is_usual_convolution(block.conv):
            return block.activate(convolve_levels(levels, block.conv.weight, block.conv.bias))
        if isinstance(block, LevelsConvolution):
            return block(levels)
        return block(concatenate_levels(levels))

    def _pool(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        pooled = [_resize(module(x), x) for module in self.psp_modules]
        return self.bottleneck(torch.cat([x, *pooled], dim=1))


class FCNHead(_PixelHead):
    """One convolution and a classifier on one map: its loss helps the backbone to learn; inference leaves it out."""

    def __init__(self, in_channels: int, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvModule(in_channels, channels, 3, norm=True))
        self._end(channels, num_classes, dropout)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes H W"]:
        """Logits of the map's size."""
        return self._logits(self.convs(x))


def _resize(x: Float[Tensor, "B C h w"], like: Float[Tensor, "B D H W"]) -> Float[Tensor, "B C H W"]:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
