"""A Swin's blocks, stages and patch embedding in their fastest form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.attention import WindowAttentionV2
from ..backbone.layers import PatchEmbed, whole_patches
from ..backbone.swin import SwinBlock, SwinStage
from ..ops import choose_window, window_attention
from ..sizes import Size
from .linear import Fixed, FusedLinear
from .norm import add_normalised

# Tokens that go through the layers together: their maps then fit into a processor's last-level cache.
_PIECE_TOKENS = 3136


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a block adds to its scores, and what V2 multiplies them by, in the precision of the model's parameters."""

    bias: Float[Tensor, "heads height width height width"]
    logit_scale: Float[Tensor, " heads"] | None

    @classmethod
    def of(cls, block: SwinBlock) -> Self:
        bias = block.attn.relative_position_bias(block.window_size)
        bias = bias.reshape(len(bias), *block.window_size, *block.window_size)
        scale = block.attn.score_scale() if isinstance(block.attn, WindowAttentionV2) else None
        return cls(bias=bias.contiguous(), logit_scale=scale)


class FastBlock(Fixed):
    """`SwinBlock` with its scores' bias computed and its linear layers fused."""

    def __init__(self, block: SwinBlock, scores: Scores, *, pack: bool) -> None:
        super().__init__()
        self.norm_first, self.shifted = block.norm_first, block.shifted
        self.window_size, self.single_window = block.window_size, block.single_window
        self.bias, self.logit_scale = scores.bias, scores.logit_scale
        self.norm1, self.norm2 = block.norm1, block.norm2
        attn = block.attn
        qkv_bias = attn.qkv_bias() if isinstance(attn, WindowAttentionV2) else attn.qkv.bias
        self.qkv = FusedLinear(attn.qkv.weight, qkv_bias, pack=pack)
        self.proj = FusedLinear.of(attn.proj, pack=pack)
        self.fc1 = FusedLinear.of(block.mlp.fc1, "gelu", pack=pack)
        self.fc2 = FusedLinear.of(block.mlp.fc2, pack=pack)
        self.example = self.qkv.example
        self.in_pieces = self.qkv.form != "plain"

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        window, shift = choose_window(
            (x.shape[1], x.shape[2]), self.window_size, shifted=self.shifted, single_window=self.single_window
        )
        attended = window_attention(
            self.qkv(self.norm1(x) if self.norm_first else x),
            self._bias_of(window),
            window_size=window,
            shift_size=shift,
            pad_token=self.qkv.bias,
            logit_scale=self.logit_scale,
        )
        x = self.proj(attended, x) if self.norm_first else add_normalised(self.norm1, self.proj(attended), x)
        del attended
        tokens = x.shape[0] * x.shape[1] * x.shape[2]
        if not self.in_pieces or tokens <= _PIECE_TOKENS:
            return self._mlp(x)
        out = torch.empty_like(x)
        for piece, to in zip(x.flatten(0, 2).split(_PIECE_TOKENS), out.flatten(0, 2).split(_PIECE_TOKENS), strict=True):
            to.copy_(self._mlp(piece))
        return out

    def _bias_of(self, window: Size) -> Float[Tensor, "heads N N"]:
        """A smaller window has the same offsets as a corner of the whole one."""
        height, width = window
        return self.bias[:, :height, :width, :height, :width].reshape(-1, height * width, height * width)

    def _mlp(self, x: Float[Tensor, "*shape C"]) -> Float[Tensor, "*shape C"]:
        if self.norm_first:
            out: Tensor = self.fc2(self.fc1(self.norm2(x)), x)
            return out
        return add_normalised(self.norm2, self.fc2(self.fc1(x)), x)


class FastStage(nn.Module):
    """`SwinStage` that takes a batch a few images at a time: their maps stay in the cache from block to block."""

    def __init__(self, stage: SwinStage) -> None:
        super().__init__()
        self.blocks = stage.blocks
        self.downsample = stage.downsample

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        images = max(1, _PIECE_TOKENS // (x.shape[1] * x.shape[2]))
        if images >= len(x):
            return self._run(x)
        return torch.cat([self._run(part) for part in x.split(images)])

    def _run(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        for block in self.blocks:
            x = block(x)
        return x


class FastPatchEmbed(nn.Module):
    """`PatchEmbed` as a product with patches, after which no map is left to be transposed."""

    def __init__(self, embed: PatchEmbed) -> None:
        super().__init__()
        self.patch_size = embed.patch_size
        self.in_channels = embed.proj.in_channels
        self.proj = FusedLinear(embed.proj.weight.flatten(1), embed.proj.bias)
        self.norm = embed.norm

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        height, width = self.patch_size
        patches = whole_patches(images, self.in_channels, self.patch_size).unfold(2, height, height)
        patches = patches.unfold(3, width, width).permute(0, 2, 3, 1, 4, 5)  # (B, h, w, C, height, width)
        return self.norm(self.proj(patches.flatten(3)))
