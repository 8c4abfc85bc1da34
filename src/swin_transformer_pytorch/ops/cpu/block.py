"""A stage's blocks on the CPU in one call, and what is between stages, for inference: `block.cpp` of the library."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...sizes import Size
from .library import lanes, run

_NO_KEY = -1e30  # what makes a key's weight zero; kNoKey in softmax.h
# Five numbers; two norms of two addresses and a number; four layers of two addresses; three addresses.
_BLOCK = struct.Struct("=5q 2qd 2qd 8q 3q")
_MERGING = struct.Struct("=q 2qd 2q")
_EMBED = struct.Struct("=2q 2qd")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A linear layer's weight in panels, and its bias in float32."""

    panels: Tensor
    bias: Tensor | None

    def addresses(self) -> tuple[int, int]:
        """As the library reads it. The addresses are those of tensors that must stay; so it is for all that follows."""
        return self.panels.data_ptr(), _address(self.bias)


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A layer normalisation's weight and bias, in float32."""

    weight: Tensor
    bias: Tensor
    eps: float

    def addresses(self) -> tuple[int, int, float]:
        """As the library reads it."""
        return self.weight.data_ptr(), self.bias.data_ptr(), self.eps


@dataclass(frozen=True, kw_only=True)
class Block:
    """What a block is made of. All tensors are contiguous.

    Attributes:
        norm_first: whether norms come before attention and MLP (V1) or after (V2).
        bias: (heads, N, keys), float32: from `pad_keys`.
        logit_scale: (heads,), float32, of V2.
        pad_token: (3 * C,), of the map's type; None is zeros.
    """

    norm_first: bool
    norm1: Norm
    norm2: Norm
    qkv: Layer
    proj: Layer
    fc1: Layer
    fc2: Layer
    bias: Tensor
    logit_scale: Tensor | None
    pad_token: Tensor | None

    @property
    def sizes(self) -> tuple[int, int]:
        """Channels of the hidden map, and heads: of blocks that go together they are the same."""
        return self.fc1.panels.shape[0], self.bias.shape[0]

    def fits(self, channels: int) -> bool:
        """Whether all its parts are for maps of that many channels: the library would look beyond others."""
        hidden, _ = self.sizes
        shapes = [tuple(layer.panels.shape) for layer in (self.qkv, self.proj, self.fc1, self.fc2)]
        wanted = [(3 * channels, channels), (channels, channels), (hidden, channels), (channels, hidden)]
        return shapes == wanted and len(self.norm1.weight) == len(self.norm2.weight) == channels

    def pack(self, window_size: Size, shift_size: Size) -> bytes:
        """As the library reads it."""
        layers = (self.qkv, self.proj, self.fc1, self.fc2)
        return _BLOCK.pack(
            self.norm_first,
            *window_size,
            *shift_size,
            *self.norm1.addresses(),
            *self.norm2.addresses(),
            *(address for layer in layers for address in layer.addresses()),
            self.bias.data_ptr(),
            _address(self.logit_scale),
            _address(self.pad_token),
        )


def pad_keys(bias: Tensor) -> Tensor:
    """A bias (heads, N, N) with its keys filled up to whole vectors of the library."""
    return F.pad(bias.float(), (0, -bias.shape[-1] % lanes()), value=_NO_KEY).contiguous()


def run_blocks(x: Tensor, blocks: Sequence[Block], geometry: Sequence[tuple[Size, Size]], out: Tensor) -> None:
    """Writes what the blocks, one after the other, make of x.

    Args:
        x: (B, H, W, C), contiguous, of the type that the blocks' panels have.
        blocks: all fit C, and have the same sizes.
        geometry: each block's window and shift, as in `window_attention`.
        out: as x.
    """
    hidden, heads = blocks[0].sizes
    normed, wide = torch.empty_like(x), x.new_empty(*x.shape[:3], max(3 * x.shape[3], hidden))
    packed = b"".join(block.pack(*where) for block, where in zip(blocks, geometry, strict=True))
    sizes = (ctypes.c_int64 * 6)(*x.shape, hidden, heads)
    maps = (x.data_ptr(), out.data_ptr(), normed.data_ptr(), wide.data_ptr())
    run("swin_blocks", packed, len(blocks), *maps, sizes, x.dtype == torch.bfloat16)


def run_patch_merging(x: Tensor, reduction: Layer, norm: Norm, *, norm_first: bool) -> Tensor:
    """`PatchMerging` of x (B, H, W, C), contiguous."""
    batch, height, width, channels = x.shape
    neighbours = x.new_empty(batch, (height + 1) // 2, (width + 1) // 2, 4 * channels)
    out = x.new_empty(*neighbours.shape[:3], 2 * channels)
    packed = _MERGING.pack(norm_first, *norm.addresses(), *reduction.addresses())
    sizes = (ctypes.c_int64 * 4)(*x.shape)
    run(
        "swin_patch_merging",
        packed,
        *(x.data_ptr(), out.data_ptr(), neighbours.data_ptr()),
        sizes,
        x.dtype == torch.bfloat16,
    )
    return out


def run_patch_embed(images: Tensor, patch_size: Size, proj: Layer, norm: Norm) -> Tensor:
    """`PatchEmbed` of images (B, C, H, W), whose rows are contiguous.

    The projection may take more numbers than a patch has, which are zero.
    """
    (batch, _, height, width), (patch_height, patch_width) = images.shape, patch_size
    columns, depth = proj.panels.shape
    patches = images.new_empty(batch, -(-height // patch_height), -(-width // patch_width), depth)
    out = images.new_empty(*patches.shape[:3], columns)
    sizes = (ctypes.c_int64 * 9)(*images.shape, *patch_size, *images.stride()[:3])
    run(
        "swin_patch_embed",
        _EMBED.pack(*proj.addresses(), *norm.addresses()),
        *(images.data_ptr(), out.data_ptr(), patches.data_ptr()),
        sizes,
        depth,
        columns,
        images.dtype == torch.bfloat16,
    )
    return out


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
