"""A Swin's blocks, stages and patch embedding in their fastest form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.attention import WindowAttentionV2
from ..backbone.layers import PatchEmbed, PatchMerging, whole_patches
from ..backbone.swin import SwinBlock, SwinStage
from ..ops import (
    Block,
    choose_window,
    depth_multiple,
    has_packed_linear,
    is_plain,
    pad_keys,
    replaceable,
    run_blocks,
    run_patch_embed,
    run_patch_merging,
    window_attention,
)
from ..sizes import Size
from .linear import Fixed, FusedLinear
from .native import native_layer, native_norm, takes_map
from .norm import add_normalised, is_usual_norm

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


@replaceable
class FastBlock(Fixed):
    """`SwinBlock` with its scores' bias computed and its linear layers fused.

    Attributes:
        padded_bias: the bias as the library's blocks take it, where its products are this package's.
    """

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
        self.padded_bias = pad_keys(self._bias_of(self.window_size)) if self.qkv.form == "panels" else None
        # Whoever hooks a norm sees the whole map.
        self.in_pieces = self.qkv.form != "plain" and all(is_usual_norm(one) for one in (self.norm1, self.norm2))

    def geometry(self, size: Size) -> tuple[Size, Size]:
        """Window and shift for a map of that size."""
        return choose_window(size, self.window_size, shifted=self.shifted, single_window=self.single_window)

    def native(self, x: Float[Tensor, "B H W C"], window: Size) -> Block | None:
        """What the library needs of it for that map; None where a part does not fit or is not as it was made."""
        layers = [native_layer(layer) for layer in (self.qkv, self.proj, self.fc1, self.fc2)]
        norms = [native_norm(norm) for norm in (self.norm1, self.norm2)]
        if self.padded_bias is None or self.example.dtype != x.dtype or window != self.window_size:
            return None
        if None in layers or None in norms:
            return None
        qkv, proj, fc1, fc2 = (layer for layer in layers if layer is not None)
        norm1, norm2 = (norm for norm in norms if norm is not None)
        block = Block(
            norm_first=self.norm_first,
            norm1=norm1,
            norm2=norm2,
            qkv=qkv,
            proj=proj,
            fc1=fc1,
            fc2=fc2,
            bias=self.padded_bias,
            logit_scale=self.logit_scale,
            pad_token=self.qkv.bias,
        )
        return block if block.fits(x.shape[3]) else None

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        size = (x.shape[1], x.shape[2])
        window, shift = self.geometry(size)
        bands = _bands(size, window[0], shift[0])
        if not self.in_pieces or x.shape[0] * size[0] * size[1] <= _PIECE_TOKENS or len(bands) == 1:
            return self._run(x, window, shift)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for top, bottom in bands:
            if bottom <= size[0]:
                out[:, top:bottom] = self._run(x[:, top:bottom], window, (0, shift[1]))
                continue
            # The last rows share windows with the first ones, as in a map of these rows alone.
            ends = self._run(torch.cat([x[:, : shift[0]], x[:, top:]], dim=1), window, shift)
            out[:, : shift[0]], out[:, top:] = ends[:, : shift[0]], ends[:, shift[0] :]
        return out

    def _run(self, x: Float[Tensor, "B H W C"], window: Size, shift: Size) -> Float[Tensor, "B H W C"]:
        if takes_map(x, x.shape[3] // len(self.bias)) and (native := self.native(x, window)) is not None:
            x, out = x.contiguous(), x.new_empty(x.shape)
            run_blocks(x, [native], [(window, shift)], out)
            return out
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


def _bands(size: Size, window_height: int, shift: int) -> list[tuple[int, int]]:
    """Rows (from, to) of a map whose windows are all theirs: in the cache together, and all rows in one band each.

    With a shift, the last band has the rows above the first one besides, and ends below the map.
    """
    height, width = size
    rows = max(1, _PIECE_TOKENS // (window_height * width)) * window_height
    if shift == 0:
        return [(top, min(top + rows, height)) for top in range(0, height, rows)]
    # Rows that a whole window has, counted from the shift on.
    whole = (height - shift) // window_height * window_height
    bands = [(shift + top, shift + min(top + rows, whole)) for top in range(0, whole, rows)]
    return [*bands, (shift + whole, height + shift)]


class FastStage(nn.Module):
    """`SwinStage` that takes a batch a few images at a time: their maps stay in the cache from block to block."""

    def __init__(self, stage: SwinStage) -> None:
        super().__init__()
        self.blocks = stage.blocks
        self.downsample = stage.downsample
        # Blocks that are not as they were made see the whole batch.
        self.in_pieces = all(isinstance(block, FastBlock) and block.in_pieces for block in stage.blocks)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        images = max(1, _PIECE_TOKENS // (x.shape[1] * x.shape[2]))
        if images >= len(x) or not self.in_pieces:
            return self._run(x)
        out = x.new_empty(x.shape)
        for part, to in zip(x.split(images), out.split(images), strict=True):
            self._run(part, to)
        return out

    def _run(self, x: Float[Tensor, "B H W C"], out: Tensor | None = None) -> Float[Tensor, "B H W C"]:
        """The stage's map, in `out` if it is given."""
        if (natives := self._natives(x)) is not None:
            x, out = x.contiguous(), x.new_empty(x.shape) if out is None else out
            run_blocks(x, *natives, out)
            return out
        for block in self.blocks:
            x = block(x)
        return x if out is None else out.copy_(x)

    def _natives(self, x: Float[Tensor, "B H W C"]) -> tuple[list[Block], list[tuple[Size, Size]]] | None:
        """The blocks for one call: where the map does not go through in bands, and all are as they were made."""
        batch, height, width, channels = x.shape
        blocks = [block for block in self.blocks if is_plain(block, FastBlock)]
        if len(blocks) < len(self.blocks) or batch * height * width > _PIECE_TOKENS:
            return None
        if not takes_map(x, channels // len(blocks[0].bias)):
            return None
        geometry = [block.geometry((height, width)) for block in blocks]
        natives = [block.native(x, window) for block, (window, _) in zip(blocks, geometry, strict=True)]
        taken = [native for native in natives if native is not None]
        alike = len(taken) == len(natives) and len({native.sizes for native in taken}) == 1
        return (taken, geometry) if alike else None


class FastPatchMerging(nn.Module):
    """`PatchMerging` of some rows at a time: what lies between its steps stays in the cache."""

    def __init__(self, merging: PatchMerging) -> None:
        super().__init__()
        self.merging = merging
        reduction = merging.reduction
        packed = isinstance(reduction, FusedLinear) and reduction.form != "plain"
        self.in_pieces = packed and is_usual_norm(merging.norm)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w D"]:
        rows = max(1, _PIECE_TOKENS // (2 * x.shape[0] * x.shape[2])) * 2
        if rows >= x.shape[1] or not self.in_pieces:
            return self._run(x)
        return torch.cat([self._run(part) for part in x.split(rows, dim=1)], dim=1)

    def _run(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w D"]:
        reduction, norm = native_layer(self.merging.reduction), native_norm(self.merging.norm)
        if is_plain(self.merging, PatchMerging) and reduction is not None and norm is not None and takes_map(x):
            panels = reduction.panels
            if panels.shape == (2 * x.shape[3], 4 * x.shape[3]) and panels.dtype == x.dtype:
                return run_patch_merging(x.contiguous(), reduction, norm, norm_first=self.merging.norm_first)
        out: Tensor = self.merging(x)
        return out


class FastPatchEmbed(nn.Module):
    """`PatchEmbed` as a product with patches, after which no map is left to be transposed."""

    def __init__(self, embed: PatchEmbed) -> None:
        super().__init__()
        self.patch_size = embed.patch_size
        self.in_channels = embed.proj.in_channels
        weight = embed.proj.weight.flatten(1)
        # Zeros fill a patch up to what products take.
        padded = F.pad(weight, (0, -weight.shape[1] % depth_multiple(weight.dtype)))
        self.proj = FusedLinear(padded if has_packed_linear(padded) else weight, embed.proj.bias)
        self.norm = embed.norm

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        height, width = self.patch_size
        images = whole_patches(images, self.in_channels, self.patch_size)
        if self.proj.form == "plain" or not is_usual_norm(self.norm):
            return self._run(images)
        rows = max(1, _PIECE_TOKENS // (images.shape[0] * images.shape[3] // width))
        bands = [self._run(band) for band in images.split(rows * height, dim=2)]
        return torch.cat(bands, dim=1) if len(bands) > 1 else bands[0]

    def _run(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        proj, norm = native_layer(self.proj), native_norm(self.norm)
        if proj is not None and norm is not None and images.dtype == self.proj.example.dtype and takes_map(images):
            return run_patch_embed(
                images if images.stride(3) == 1 else images.contiguous(), self.patch_size, proj, norm
            )
        height, width = self.patch_size
        patches = images.unfold(2, height, height).unfold(3, width, width)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3)  # (B, h, w, C * height * width)
        out: Tensor = self.norm(self.proj(F.pad(patches, (0, self.proj.in_features - patches.shape[3]))))
        return out
