"""Mask2Former's transformer decoder (arXiv 2112.01527, section 3.2): queries that look at where their masks are.

Parameters have the names of the authors' code, whose numerics these are. Their code calls this the predictor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import recomputed
from .conv import init_xavier, projected
from .mask_outputs import MaskOutputs
from .sine_position import sine_position


class Attention(nn.Module):
    """Attention of several heads, with the parameters of `torch.nn.MultiheadAttention`.

    Args:
        dim: channels of a token.
        num_heads: which divides them.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        init_xavier([self.out_proj])

    def forward(
        self,
        query: Float[Tensor, "B Q C"],
        key: Float[Tensor, "B N C"],
        value: Float[Tensor, "B N C"],
        allowed: Bool[Tensor, "B Q N"] | None = None,
    ) -> Float[Tensor, "B Q C"]:
        """`allowed` says which tokens each query may look at, at least one; None: all."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mask = None if allowed is None else allowed.unsqueeze(1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, heads, Q, C / heads)
        return projected(self.out_proj, out.transpose(1, 2).flatten(2))


class MaskedCrossAttention(nn.Module):
    """Queries look at the cells of a map that they may look at; a norm after the sum."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(dim, num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Float[Tensor, "B Q C"],
        query_position: Float[Tensor, "Q C"],
        memory: Float[Tensor, "B N C"],
        position: Float[Tensor, "N C"],
        allowed: Bool[Tensor, "B Q N"],
    ) -> Float[Tensor, "B Q C"]:
        key = memory + position
        with recomputed(key, torch.add, memory, position):
            x = x + self.multihead_attn(x + query_position, key, memory, allowed)
        out: Tensor = self.norm(x)
        return out


class SelfAttention(nn.Module):
    """Queries look at each other; a norm after the sum."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "B Q C"], query_position: Float[Tensor, "Q C"]) -> Float[Tensor, "B Q C"]:
        placed = x + query_position
        out: Tensor = self.norm(x + self.self_attn(placed, placed, x))
        return out


class FeedForward(nn.Module):
    """Two linear layers; a norm after the sum."""

    def __init__(self, dim: int, feedforward_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, dim)
        self.norm = nn.LayerNorm(dim)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Float[Tensor, "B Q C"]) -> Float[Tensor, "B Q C"]:
        out: Tensor = self.norm(x + projected(self.linear2, F.relu(projected(self.linear1, x))))
        return out


class MaskEmbedding(nn.Module):
    """Three linear layers: from a query to what its mask has in common with features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Float[Tensor, "B Q C"]) -> Float[Tensor, "B Q C"]:
        first, second, last = self.layers
        return projected(last, F.relu(projected(second, F.relu(projected(first, x)))))


class MaskedDecoder(nn.Module):
    """Learnt queries that look at the maps in turn, each only where the mask is that it had before.

    Args:
        dim: channels of queries, maps and features.
        feedforward_dim: hidden channels of each layer.
        num_classes: K; none is one more.
        num_queries: masks that it gives.
        num_layers: the first looks at the first map, and so on, round and round.
        num_heads: of each attention.
        num_levels: maps.
    """

    class_layers = ("class_embed",)  # whose rows are classes

    def __init__(
        self,
        dim: int,
        feedforward_dim: int,
        *,
        num_classes: int,
        num_queries: int,
        num_layers: int,
        num_heads: int,
        num_levels: int,
    ) -> None:
        super().__init__()
        layers = range(num_layers)
        self.transformer_self_attention_layers = nn.ModuleList(SelfAttention(dim, num_heads) for _ in layers)
        self.transformer_cross_attention_layers = nn.ModuleList(MaskedCrossAttention(dim, num_heads) for _ in layers)
        self.transformer_ffn_layers = nn.ModuleList(FeedForward(dim, feedforward_dim) for _ in layers)
        self.decoder_norm = nn.LayerNorm(dim)
        self.query_feat = nn.Embedding(num_queries, dim)
        self.query_embed = nn.Embedding(num_queries, dim)
        self.level_embed = nn.Embedding(num_levels, dim)
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.mask_embed = MaskEmbedding(dim)

    def reset_classes(self, num_classes: int) -> None:
        """A layer with random weights for that many classes, and none."""
        layer = nn.Linear(self.class_embed.in_features, num_classes + 1)
        self.class_embed = layer.to(self.query_feat.weight).train(self.training)

    def forward(
        self, maps: Sequence[Float[Tensor, "B C _ _"]], mask_features: Float[Tensor, "B C h w"], *, every: bool
    ) -> list[MaskOutputs]:
        """What the queries give after the last layer; if `every`, first what they give before each layer, too.

        Args:
            maps: coarsest first.
            mask_features: of which masks are made.
            every: as training needs them, one more than layers.
        """
        sizes = [(one.shape[2], one.shape[3]) for one in maps]
        positions = [sine_position(size, one.shape[1], one) for size, one in zip(sizes, maps, strict=True)]
        memories = [
            one.flatten(2).transpose(1, 2) + level for one, level in zip(maps, self.level_embed.weight, strict=True)
        ]
        query_position = self.query_embed.weight
        x = self.query_feat.weight.expand(mask_features.shape[0], -1, -1)
        outputs = []
        blocks = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for i, (cross_attention, self_attention, feedforward) in enumerate(blocks):
            level = i % len(maps)
            normed = self.decoder_norm(x)
            masks = self._masks(normed, mask_features)
            if every:
                outputs.append(self._outputs(normed, masks))
            allowed = allowed_cells(masks.detach(), sizes[level])
            x = cross_attention(x, query_position, memories[level], positions[level], allowed)
            x = feedforward(self_attention(x, query_position))
        normed = self.decoder_norm(x)
        return [*outputs, self._outputs(normed, self._masks(normed, mask_features))]

    def _masks(
        self, normed: Float[Tensor, "B Q C"], mask_features: Float[Tensor, "B C h w"]
    ) -> Float[Tensor, "B Q h w"]:
        return (self.mask_embed(normed) @ mask_features.flatten(2)).unflatten(2, mask_features.shape[2:])

    def _outputs(self, normed: Float[Tensor, "B Q C"], masks: Float[Tensor, "B Q h w"]) -> MaskOutputs:
        logits = projected(self.class_embed, normed)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return MaskOutputs(class_logits=logits.to(dtype), mask_logits=masks.to(dtype))


def allowed_cells(mask_logits: Float[Tensor, "B Q h w"], map_size: tuple[int, int]) -> Bool[Tensor, "B Q cells"]:
    """The cells of a map of that size that each query may look at: where its mask is; all, where it has no mask there.

    In float32 at least: halves round the sigmoid of a small negative logit to 0.5, which counts as mask.
    """
    logits = mask_logits.to(torch.promote_types(mask_logits.dtype, torch.float32))
    resized = F.interpolate(logits, size=map_size, mode="bilinear", align_corners=False)
    forbidden = resized.sigmoid().flatten(2) < 0.5
    return ~(forbidden & ~forbidden.all(dim=2, keepdim=True))
