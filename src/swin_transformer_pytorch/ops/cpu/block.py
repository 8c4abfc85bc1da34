"""A stage's blocks on the CPU in one call: `swin_blocks` of the library, for inference."""

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


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A linear layer's weight in panels, and its bias in float32."""

    panels: Tensor
    bias: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A layer normalisation's weight and bias, in float32."""

    weight: Tensor
    bias: Tensor
    eps: float


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

    def pack(self, window_size: Size, shift_size: Size) -> bytes:
        """As the library reads it. The addresses are those of tensors that must stay."""
        layers = (self.qkv, self.proj, self.fc1, self.fc2)
        return _BLOCK.pack(
            self.norm_first,
            *window_size,
            *shift_size,
            *(self.norm1.weight.data_ptr(), self.norm1.bias.data_ptr(), self.norm1.eps),
            *(self.norm2.weight.data_ptr(), self.norm2.bias.data_ptr(), self.norm2.eps),
            *(address for layer in layers for address in (layer.panels.data_ptr(), _address(layer.bias))),
            self.bias.data_ptr(),
            _address(self.logit_scale),
            _address(self.pad_token),
        )


def pad_keys(bias: Tensor) -> Tensor:
    """A bias (heads, N, N) with its keys filled up to whole vectors of the library."""
    return F.pad(bias.float(), (0, -bias.shape[-1] % lanes()), value=_NO_KEY).contiguous()


def run_blocks(x: Tensor, blocks: Sequence[Block], geometry: Sequence[tuple[Size, Size]]) -> Tensor:
    """The blocks one after the other.

    Args:
        x: (B, H, W, C), contiguous, of the type that the blocks' panels have.
        geometry: each block's window and shift, as in `window_attention`.
    """
    heads, hidden = blocks[0].bias.shape[0], blocks[0].fc1.panels.shape[0]
    out, normed = torch.empty_like(x), torch.empty_like(x)
    wide = x.new_empty(*x.shape[:3], max(3 * x.shape[3], hidden))
    packed = b"".join(block.pack(*where) for block, where in zip(blocks, geometry, strict=True))
    sizes = (ctypes.c_int64 * 6)(*x.shape, hidden, heads)
    maps = (x.data_ptr(), out.data_ptr(), normed.data_ptr(), wide.data_ptr())
    run("swin_blocks", packed, len(blocks), *maps, sizes, x.dtype == torch.bfloat16)
    return out


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
