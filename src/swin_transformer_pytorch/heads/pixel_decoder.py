"""Mask2Former's pixel decoder (arXiv 2112.01527, section 3.2.1): from a backbone's maps to those that queries look at.

Parameters have the names of the authors' code, whose numerics these are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import convolve, without_autocast
from .conv import convolved, init_xavier
from .deformable import DeformableEncoder, DeformableLayer
from .sine_position import sine_position

NORM_GROUPS = 32
"""Groups of channels that the norms of convolutions take together."""


class GroupNorm(nn.GroupNorm):
    """That of `torch.nn`, and where a group is a single number, its bias."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class NormedConvolution(nn.Conv2d):
    """A square convolution without bias that keeps the map's size, and a group norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = GroupNorm(NORM_GROUPS, out_channels)
        _init_fan_in(self)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        usual = self.kernel_size == (3, 3) and not torch.compiler.is_compiling()
        out: Tensor = self.norm(convolve(x, self.weight) if usual else super().forward(x))
        return out


class DeformableTransformer(nn.Module):
    """The encoder, and what tells it the maps apart.

    Args:
        dim: channels of a token.
        feedforward_dim: hidden channels of each layer.
        num_layers: of the encoder.
        num_heads: of each layer's attention.
        num_levels: maps.
        num_points: places that a head looks at in a map.
    """

    def __init__(
        self, dim: int, feedforward_dim: int, *, num_layers: int, num_heads: int, num_levels: int, num_points: int = 4
    ) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.empty(num_levels, dim))
        nn.init.normal_(self.level_embed)
        self.encoder = DeformableEncoder(
            [
                DeformableLayer(dim, feedforward_dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points)
                for _ in range(num_layers)
            ]
        )

    def forward(self, maps: Sequence[Float[Tensor, "B C _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """Maps of the same sizes, whose cells have looked at those of all."""
        sizes = [(one.shape[2], one.shape[3]) for one in maps]
        position = torch.cat(
            [
                sine_position(size, one.shape[1], one) + level
                for size, one, level in zip(sizes, maps, self.level_embed, strict=True)
            ]
        )
        tokens = torch.cat([one.flatten(2).transpose(1, 2) for one in maps], dim=1)
        tokens = self.encoder(tokens, position, sizes)
        parts = tokens.split([height * width for height, width in sizes], dim=1)
        return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


class PixelDecoder(nn.Module):
    """All maps but the finest through a deformable encoder; the finest then takes in what it gives.

    Args:
        in_channels: channels of each map, finest first; at least two maps.
        dim: channels of what it gives, a multiple of 32.
        feedforward_dim: hidden channels of the encoder's layers.
        num_layers: of the encoder.
        num_heads: of their attention.
    """

    def __init__(
        self, in_channels: Sequence[int], dim: int, *, feedforward_dim: int, num_layers: int, num_heads: int
    ) -> None:
        super().__init__()
        finest, *others = in_channels
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, dim, 1), GroupNorm(NORM_GROUPS, dim)) for channels in reversed(others)
        )
        init_xavier(layer for layer in self.input_proj.modules() if isinstance(layer, nn.Conv2d))
        self.transformer = DeformableTransformer(
            dim, feedforward_dim, num_layers=num_layers, num_heads=num_heads, num_levels=len(others)
        )
        self.adapter_1 = NormedConvolution(finest, dim, 1)
        self.layer_1 = NormedConvolution(dim, dim, 3)
        self.mask_features = nn.Conv2d(dim, dim, 1)
        _init_fan_in(self.mask_features)

    def forward(
        self, maps: Sequence[Float[Tensor, "B _ _ _"]]
    ) -> tuple[Float[Tensor, "B D H W"], list[Float[Tensor, "B D _ _"]]]:
        """Features of the size of the first map, that masks are made of, and the maps of the encoder, coarsest first.

        Under automatic mixed precision too it computes in the type of its parameters, as the authors' does.

        Args:
            maps: of the backbone, finest first, one for each of `in_channels`.
        """
        with without_autocast(maps[0].device.type):
            finest, *others = (one.to(self.transformer.level_embed.dtype) for one in maps)
            projected = []
            for projection, one in zip(self.input_proj, reversed(others), strict=True):
                convolution, norm = projection.children()
                projected.append(norm(convolved(convolution, one)))
            levels = self.transformer(projected)
            lateral = self.adapter_1(finest)
            above = F.interpolate(levels[-1], size=lateral.shape[2:], mode="bilinear", align_corners=False)
            return convolved(self.mask_features, F.relu(self.layer_1(lateral + above))), levels


def _init_fan_in(layer: nn.Conv2d) -> None:
    """Kaiming-uniform for the fan in of no nonlinearity, bias 0: what Caffe2 called Xavier."""
    nn.init.kaiming_uniform_(layer.weight, a=1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
