"""The parts of a backbone as the library reads them, for inference on a CPU: `block.cpp`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch.nn.functional as F
from torch import Tensor

from ...sizes import Size
from .library import lanes

_NO_KEY = -1e30  # what makes a key's weight zero; kNoKey in softmax.h
# A block: five numbers; two norms of two addresses and a number; four layers of two addresses; three addresses.
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
        """Channels of the hidden map, and heads."""
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


@dataclass(frozen=True, kw_only=True)
class Merging:
    """What patch merging is made of."""

    norm_first: bool
    norm: Norm
    reduction: Layer

    def fits(self, channels: int) -> bool:
        """Whether its parts are for maps of that many channels."""
        shape = tuple(self.reduction.panels.shape)
        return shape == (2 * channels, 4 * channels) and len(self.norm.weight) == shape[1 if self.norm_first else 0]

    def pack(self) -> bytes:
        """As the library reads it."""
        return _MERGING.pack(self.norm_first, *self.norm.addresses(), *self.reduction.addresses())


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What patch embedding is made of. The projection may take more numbers than a patch has, which are zero."""

    patch_size: Size
    proj: Layer
    norm: Norm

    def fits(self, channels: int, columns: int) -> bool:
        """Whether its parts are for images of that many channels, and make as many columns."""
        made, depth = self.proj.panels.shape
        return channels * prod(self.patch_size) <= depth and made == len(self.norm.weight) == columns

    def pack(self) -> bytes:
        """As the library reads it."""
        return _EMBED.pack(*self.proj.addresses(), *self.norm.addresses())


def tensors_of(part: Block | Merging | Embedding) -> Iterator[Tensor]:
    """All tensors whose addresses are in what it is packed to."""
    for value in vars(part).values():
        for tensor in vars(value).values() if isinstance(value, Layer | Norm) else [value]:
            if isinstance(tensor, Tensor):
                yield tensor


def pad_keys(bias: Tensor) -> Tensor:
    """A bias (heads, N, N) with its keys filled up to whole vectors of the library."""
    return F.pad(bias.float(), (0, -bias.shape[-1] % lanes()), value=_NO_KEY).contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
