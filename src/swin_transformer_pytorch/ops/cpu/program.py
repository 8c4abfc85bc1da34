"""Parts of a backbone that go through the library in one call, whatever their number: `block.cpp`."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ...sizes import Size
from .block import Block, Embedding, Merging, tensors_of
from .library import run

_STEP = struct.Struct("=2q 8q 11q")  # what it is, where its part is; four places; sizes
_BLOCK, _MERGING, _EMBEDDING, _COPY = range(4)
_X, _FIRST, _SECOND, _MAPS = range(4)  # the bases of places: the input, two places to write, then maps

Shape = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Map:
    """A map (B, H, W, C) of a program, or a part of one that is contiguous: from `offset` numbers on."""

    base: int
    shape: Shape
    offset: int = 0

    def images(self, first: int, count: int) -> Map:
        """Some of its images."""
        offset = self.offset + first * prod(self.shape[1:])
        return Map(base=self.base, shape=(count, *self.shape[1:]), offset=offset)

    def rows(self, first: int, count: int) -> Map:
        """Some rows of a map of one image."""
        batch, _, width, channels = self.shape
        assert batch == 1, self
        return Map(base=self.base, shape=(1, count, width, channels), offset=self.offset + first * width * channels)


class Program:
    """Steps, to be run on any input of one shape and type.

    Args:
        shape: of the input, (B, H, W, C), or of images (B, C, H, W).
        dtype: of all maps, and of the panels of all parts.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.x = Map(base=_X, shape=_shape(shape))
        self._maps: list[Shape] = []
        self._results: list[int] = []
        self._numbers = [0, 0]  # of the two places to write
        self._parts: dict[bytes, int | None] = {}  # packed, and where that is
        self._steps: list[bytes] = []  # with the addresses of the parts
        self._tensors: list[Tensor] = []
        self._addresses: list[int] = []
        self._strides: tuple[int, ...] | None = None  # of images

    def new(self, shape: Sequence[int], *, result: bool = False) -> Map:
        """A map that steps write; one that `run` returns if it is a result."""
        self._maps.append(_shape(shape))
        if result:
            self._results.append(len(self._maps) - 1)
        return Map(base=_MAPS + len(self._maps) - 1, shape=self._maps[-1])

    def add_block(self, block: Block, x: Map, out: Map, window_size: Size, shift_size: Size) -> None:
        """From x to out, which may be the same. The block fits x."""
        hidden, heads = block.sizes
        batch, height, width, channels = x.shape
        rows = batch * height * width
        self._keep(rows * channels, rows * max(3 * channels, hidden))
        self._add(_BLOCK, block, block.pack(window_size, shift_size), (x, out), (*x.shape, hidden, heads))

    def add_merging(self, merging: Merging, x: Map, out: Map) -> None:
        """From x to out, of half its sides, rounded up, and twice its channels. The merging fits x."""
        self._keep(prod(out.shape[:3]) * 4 * x.shape[3], 0)
        self._add(_MERGING, merging, merging.pack(), (x, out), x.shape)

    def add_embedding(self, embedding: Embedding, images: Tensor, image: int, first_row: int, out: Map) -> None:
        """From one of the images, like these, whose rows are contiguous, to some rows of its map."""
        columns, depth = embedding.proj.panels.shape
        self._keep(prod(out.shape[:3]) * depth, 0)
        self._strides = images.stride()
        _, channels, height, width = images.shape
        top, steps = first_row * embedding.patch_size[0], images.stride()
        shape = (1, channels, min(height - top, out.shape[1] * embedding.patch_size[0]), width)
        x = Map(base=_X, shape=shape, offset=image * steps[0] + top * steps[2])
        sizes = (*shape, *embedding.patch_size, *steps[:3], depth, columns)
        self._add(_EMBEDDING, embedding, embedding.pack(), (x, out), sizes)

    def add_copy(self, x: Map, out: Map) -> None:
        """x to out, of the same shape."""
        self._add(_COPY, None, b"", (x, out), (prod(x.shape) * self.dtype.itemsize,))

    def is_current(self) -> bool:
        """Whether the tensors of its parts are where they were."""
        return [tensor.data_ptr() for tensor in self._tensors] == self._addresses

    def run(self, x: Tensor) -> list[Tensor]:
        """The results, in the order in which they were made, of an input whose rows are contiguous."""
        assert self._strides in (None, x.stride()), "images lie in memory as those do that the steps were made for"
        maps = [x.new_empty(shape) for shape in self._maps]
        tensors = (x, *(x.new_empty(count) for count in self._numbers), *maps)
        bases = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
        run("swin_layers", b"".join(self._steps), len(self._steps), bases, x.dtype == torch.bfloat16)
        return [maps[index] for index in self._results]

    def _keep(self, *numbers: int) -> None:
        self._numbers = [max(pair) for pair in zip(self._numbers, numbers, strict=True)]

    def _add(
        self,
        kind: int,
        part: Block | Merging | Embedding | None,
        packed: bytes,
        maps: tuple[Map, Map],
        sizes: tuple[int, ...],
    ) -> None:
        if packed not in self._parts:
            found = [] if part is None else list(tensors_of(part))
            self._tensors += found
            self._addresses += [tensor.data_ptr() for tensor in found]
            self._parts[packed] = ctypes.cast(ctypes.c_char_p(packed), ctypes.c_void_p).value
        places = (*((one.base, one.offset * self.dtype.itemsize) for one in maps), (_FIRST, 0), (_SECOND, 0))
        numbers = (number for place in places for number in place)
        self._steps.append(_STEP.pack(kind, self._parts[packed], *numbers, *sizes, *(0,) * (11 - len(sizes))))


def with_rows(images: Tensor) -> Tensor:
    """Images (B, C, H, W) as `Program.add_embedding` and `run` take them: whose rows are contiguous."""
    return images if images.stride(3) == 1 else images.contiguous()


def _shape(shape: Sequence[int]) -> Shape:
    first, second, third, fourth = shape
    return first, second, third, fourth
