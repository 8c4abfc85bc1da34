"""A transformer encoder whose attention is deformable, on the tokens of several maps together (arXiv 2010.04159)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import after_norm, recomputed
from ..ops.deformable import deformable_attention
from ..sizes import Size
from .conv import init_xavier, projected


class DeformableAttention(nn.Module):
    """Each token looks at `num_points` places of each map, around its own, that it chooses itself.

    Args:
        dim: channels of a token.
        num_heads: which divides them.
        num_levels: maps.
        num_points: places a head and map.
    """

    def __init__(self, dim: int, *, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        places = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(dim, 2 * places)
        self.attention_weights = nn.Linear(dim, places)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self._init()

    def _init(self) -> None:
        """Heads look in directions all around, point by point a cell further out, and weigh all alike."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        init_xavier([self.value_proj, self.output_proj])
        angles = torch.arange(self.num_heads, device=self.sampling_offsets.bias.device) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=1)
        directions = directions / directions.abs().amax(dim=1, keepdim=True)
        steps = torch.arange(1.0, self.num_points + 1, device=directions.device)
        offsets = directions[:, None, None] * steps[:, None]  # (heads, 1, points, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        value: Float[Tensor, "B N C"],
        map_sizes: Sequence[Size],
        centres: Float[Tensor, "Q 2"],
        lengths: Float[Tensor, "levels 2"],
    ) -> Float[Tensor, "B Q C"]:
        """What each query reads.

        Args:
            query: what chooses the places.
            value: the tokens of all maps, one map after the other.
            map_sizes: (height, width) of each map.
            centres: (x, y) of each query, as `cell_centres` gives them.
            lengths: (width, height) of each map.
        """
        places = (self.num_heads, self.num_levels, self.num_points)
        # Halves could not tell neighbouring cells of a large map apart.
        offsets = projected(self.sampling_offsets, query).to(centres.dtype).unflatten(2, (*places, 2))
        locations = centres[:, None, None, None] + offsets / lengths[:, None]
        weights = projected(self.attention_weights, query).unflatten(2, (self.num_heads, -1)).softmax(dim=3)
        heads = projected(self.value_proj, value).unflatten(2, (self.num_heads, -1))
        read = deformable_attention(heads, map_sizes, locations, weights.unflatten(3, places[1:]))
        return projected(self.output_proj, read)


class DeformableLayer(nn.Module):
    """Deformable attention of all tokens to all, then two linear layers; a norm after each sum."""

    def __init__(self, dim: int, feedforward_dim: int, *, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(
        self,
        x: Float[Tensor, "B N C"],
        position: Float[Tensor, "N C"],
        map_sizes: Sequence[Size],
        centres: Float[Tensor, "N 2"],
        lengths: Float[Tensor, "levels 2"],
    ) -> Float[Tensor, "B N C"]:
        query = x + position
        with recomputed(query, torch.add, x, position):
            x = x + self.self_attn(query, x, map_sizes, centres, lengths)
        return self.norm2(after_norm(self.norm1, x, self._feed_forward))

    def _feed_forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return x + projected(self.linear2, F.relu(projected(self.linear1, x)))


class DeformableEncoder(nn.Module):
    """Layers, one after the other."""

    def __init__(self, layers: Sequence[DeformableLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self, x: Float[Tensor, "B N C"], position: Float[Tensor, "N C"], map_sizes: Sequence[Size]
    ) -> Float[Tensor, "B N C"]:
        """Tokens of the maps, one map after the other, after all layers; `position` is what tells them apart."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        centres = torch.cat([cell_centres(size, x.device, dtype) for size in map_sizes])
        # Not `torch.tensor`, which would fix the sizes in a graph.
        sides = [torch.full((1,), side, dtype=dtype, device=x.device) for size in map_sizes for side in reversed(size)]
        lengths = torch.cat(sides).view(-1, 2)
        for layer in self.layers:
            x = layer(x, position, map_sizes, centres, lengths)
        return x


def cell_centres(map_size: Size, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "cells 2"]:
    """(x, y) of the centre of each cell, row by row; 0 and 1 are the map's edges."""
    y, x = ((torch.arange(side, device=device, dtype=dtype) + 0.5) / side for side in map_size)
    height, width = map_size  # a tensor's `len` would be the example's in an exported graph
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=2).flatten(0, 1)
