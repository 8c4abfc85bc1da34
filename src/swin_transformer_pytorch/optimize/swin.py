"""A Swin's blocks and patch embedding in their fastest form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.attention import WindowAttentionV2
from ..backbone.layers import PatchEmbed, whole_patches
from ..backbone.swin import SwinBlock
from ..ops import (
    Block,
    Embedding,
    Map,
    Program,
    choose_implementation,
    choose_window,
    depth_multiple,
    has_packed_linear,
    pad_keys,
    replaceable,
    window_attention,
    with_rows,
)
from ..sizes import Size
from .linear import Fixed, FusedLinear
from .native import native_layer, native_norm, takes_map
from .norm import add_normalised, is_usual_norm

# Tokens that go through the layers together: their maps then fit into a processor's last-level cache.
PIECE_TOKENS = 3136


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
        self.bias = scores.bias
        self.norm1, self.norm2 = block.norm1, block.norm2
        attn = block.attn
        qkv_bias = attn.qkv_bias() if isinstance(attn, WindowAttentionV2) else attn.qkv.bias
        self.qkv = FusedLinear(attn.qkv.weight, qkv_bias, pack=pack)
        self.proj = FusedLinear.of(attn.proj, pack=pack)
        self.fc1 = FusedLinear.of(block.mlp.fc1, "gelu", pack=pack)
        self.fc2 = FusedLinear.of(block.mlp.fc2, pack=pack)
        self.example = self.qkv.example
        self.padded_bias = pad_keys(self._bias_of(self.window_size)) if self.qkv.form == "panels" else None
        # The library reads it in float32, whatever the parameters were.
        scale = scores.logit_scale
        self.logit_scale = scale if scale is None or self.padded_bias is None else scale.float()
        # Whoever hooks a norm sees the whole map.
        self.in_pieces = self.qkv.form != "plain" and all(is_usual_norm(one) for one in (self.norm1, self.norm2))

    def geometry(self, size: Size) -> tuple[Size, Size]:
        """Window and shift for a map of that size."""
        return choose_window(size, self.window_size, shifted=self.shifted, single_window=self.single_window)

    def native(self, dtype: torch.dtype, channels: int, window: Size) -> Block | None:
        """What the library needs of it for such a map; None where a part does not fit or is not as it was made."""
        layers = [native_layer(layer) for layer in (self.qkv, self.proj, self.fc1, self.fc2)]
        norms = [native_norm(norm) for norm in (self.norm1, self.norm2)]
        if self.padded_bias is None or self.example.dtype != dtype or window != self.window_size:
            return None
        head_dim = channels // len(self.bias)
        if choose_implementation("cpu", training=False, dtype=dtype, head_dim=head_dim) != "cpu":
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
        return block if block.fits(channels) else None

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        size = (x.shape[1], x.shape[2])
        window, shift = self.geometry(size)
        parts = bands(size, window[0], shift[0])
        if not self.in_pieces or x.shape[0] * size[0] * size[1] <= PIECE_TOKENS or len(parts) == 1:
            return self._run(x, window, shift)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for top, bottom in parts:
            if bottom <= size[0]:
                out[:, top:bottom] = self._run(x[:, top:bottom], window, (0, shift[1]))
                continue
            # The last rows share windows with the first ones, as in a map of these rows alone.
            ends = self._run(torch.cat([x[:, : shift[0]], x[:, top:]], dim=1), window, shift)
            out[:, : shift[0]], out[:, top:] = ends[:, : shift[0]], ends[:, shift[0] :]
        return out

    def _run(self, x: Float[Tensor, "B H W C"], window: Size, shift: Size) -> Float[Tensor, "B H W C"]:
        native = self.native(x.dtype, x.shape[3], window) if takes_map(x) else None
        if native is not None:
            program = Program(x.shape, x.dtype)
            program.add_block(native, program.x, program.new(x.shape, result=True), window, shift)
            return program.run(x.contiguous())[0]
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
        if not self.in_pieces or tokens <= PIECE_TOKENS:
            return self._mlp(x)
        out = torch.empty_like(x)
        for piece, to in zip(x.flatten(0, 2).split(PIECE_TOKENS), out.flatten(0, 2).split(PIECE_TOKENS), strict=True):
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


def bands(size: Size, window_height: int, shift: int) -> list[tuple[int, int]]:
    """Rows (from, to) of a map whose windows are all theirs: in the cache together, and all rows in one band each.

    With a shift, the last band has the rows above the first one besides, and ends below the map.
    """
    height, width = size
    rows = max(1, PIECE_TOKENS // (window_height * width)) * window_height
    if shift == 0:
        return [(top, min(top + rows, height)) for top in range(0, height, rows)]
    # Rows that a whole window has, counted from the shift on.
    whole = (height - shift) // window_height * window_height
    found = [(shift + top, shift + min(top + rows, whole)) for top in range(0, whole, rows)]
    return [*found, (shift + whole, height + shift)]


@replaceable
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
        images = self.whole_patches(images)
        if self.proj.form == "plain" or not is_usual_norm(self.norm):
            return self._run(images)
        native = self.native(images) if takes_map(images) else None
        if native is not None:
            images = with_rows(images)
            program = Program(images.shape, images.dtype)
            out = program.new((len(images), *self.map_size(images), self.proj.out_features), result=True)
            self.add_to(program, native, images, 0, out)
            return program.run(images)[0]
        rows = max(1, PIECE_TOKENS // (images.shape[0] * images.shape[3] // width))
        bands = [self._run(band) for band in images.split(rows * height, dim=2)]
        return torch.cat(bands, dim=1) if len(bands) > 1 else bands[0]

    def whole_patches(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Images padded to whole patches, if they are images of a batch with the channels that it takes."""
        return whole_patches(images, self.in_channels, self.patch_size)

    def map_size(self, images: Float[Tensor, "B C H W"]) -> Size:
        """Of whole patches."""
        return images.shape[2] // self.patch_size[0], images.shape[3] // self.patch_size[1]

    def native(self, images: Float[Tensor, "B C H W"]) -> Embedding | None:
        """What the library needs of it for such images, or None where a part is not as it was made, or does not fit."""
        proj, norm = native_layer(self.proj), native_norm(self.norm)
        if proj is None or norm is None or images.dtype != self.proj.example.dtype:
            return None
        embedding = Embedding(patch_size=self.patch_size, proj=proj, norm=norm)
        return embedding if embedding.fits(images.shape[1], self.proj.out_features) else None

    @staticmethod
    def add_to(program: Program, native: Embedding, images: Tensor, first: int, out: Map) -> None:
        """Steps from images like these, from the `first` on, to a map of as many as it has."""
        count, height, width, _ = out.shape
        rows = max(1, PIECE_TOKENS // width)
        for image in range(count):
            for top in range(0, height, rows):
                part = out.images(image, 1).rows(top, min(rows, height - top))
                program.add_embedding(native, images, first + image, top, part)

    def _run(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        height, width = self.patch_size
        patches = images.unfold(2, height, height).unfold(3, width, width)
        patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3)  # (B, h, w, C * height * width)
        out: Tensor = self.norm(self.proj(F.pad(patches, (0, self.proj.in_features - patches.shape[3]))))
        return out
