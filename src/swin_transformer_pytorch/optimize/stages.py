"""A Swin's stages in their fastest form: where all is as this package made it, in one call of the library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.layers import PatchMerging
from ..backbone.swin import StagesTogether, SwinStage
from ..ops import Block, Map, Merging, Program, Snapshot, is_plain, replaceable, with_rows
from ..sizes import Size
from .linear import FusedLinear
from .native import native_layer, native_norm, takes_map
from .norm import is_usual_norm
from .swin import PIECE_TOKENS, FastBlock, FastPatchEmbed, bands


@replaceable
class FastStage(nn.Module):
    """`SwinStage` that takes a batch a few images at a time: their maps stay in the cache from block to block."""

    downsample: nn.Module | None

    def __init__(self, stage: SwinStage) -> None:
        super().__init__()
        self.blocks = stage.blocks
        self.downsample = stage.downsample
        # Blocks that are not as they were made see the whole batch.
        self.in_pieces = all(isinstance(block, FastBlock) and block.in_pieces for block in stage.blocks)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        if takes_map(x) and (native := self.native(x.shape, x.dtype)) is not None:
            program = Program(x.shape, x.dtype)
            native.add_to(program, program.x, program.new(x.shape, result=True))
            return program.run(x.contiguous())[0]
        images = images_at_once(x.shape)
        if images == len(x) or not self.in_pieces:
            return self._run(x)
        out = x.new_empty(x.shape)
        for part, to in zip(x.split(images), out.split(images), strict=True):
            to.copy_(self._run(part))
        return out

    def _run(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        for block in self.blocks:
            x = block(x)
        return x

    def native(self, shape: Sequence[int], dtype: torch.dtype) -> NativeStage | None:
        """What the library needs of it for such maps, or None where a block is not as it was made, or does not fit."""
        _, height, width, channels = shape
        blocks, geometry = [], []
        for block in self.blocks:
            if not is_plain(block, FastBlock):
                return None
            geometry.append(block.geometry((height, width)))
            native = block.native(dtype, channels, geometry[-1][0])
            if native is None:
                return None
            blocks.append(native)
        return NativeStage(blocks=blocks, geometry=geometry)


@dataclass(frozen=True, kw_only=True)
class NativeStage:
    """Blocks, and each one's window and shift."""

    blocks: list[Block]
    geometry: list[tuple[Size, Size]]

    def add_to(self, program: Program, x: Map, out: Map) -> None:
        """Steps from x to out, which may be the same: some images at a time, or a large one in bands of rows."""
        in_bands = x.shape[1] * x.shape[2] > PIECE_TOKENS
        for source, to in zip(pieces(x), pieces(out), strict=True):
            for block, (window, shift) in zip(self.blocks, self.geometry, strict=True):
                if in_bands:
                    _add_bands(program, block, source, to, window, shift)
                else:
                    program.add_block(block, source, to, window, shift)
                source = to


def _add_bands(program: Program, block: Block, x: Map, out: Map, window: Size, shift: Size) -> None:
    _, height, width, channels = x.shape
    found = bands((height, width), window[0], shift[0])
    if len(found) == 1:
        return program.add_block(block, x, out, window, shift)
    for top, bottom in found:
        if bottom <= height:
            program.add_block(block, x.rows(top, bottom - top), out.rows(top, bottom - top), window, (0, shift[1]))
            continue
        # The last rows share windows with the first ones, as in a map of these rows alone.
        ends = program.new((1, bottom - top, width, channels))
        parts = ((0, shift[0], 0), (top, height - top, shift[0]))
        for first, count, place in parts:
            program.add_copy(x.rows(first, count), ends.rows(place, count))
        program.add_block(block, ends, ends, window, shift)
        for first, count, place in parts:
            program.add_copy(ends.rows(place, count), out.rows(first, count))


@replaceable
class FastPatchMerging(nn.Module):
    """`PatchMerging` of some rows at a time: what lies between its steps stays in the cache."""

    def __init__(self, merging: PatchMerging) -> None:
        super().__init__()
        self.merging = merging
        reduction = merging.reduction
        packed = isinstance(reduction, FusedLinear) and reduction.form != "plain"
        self.in_pieces = packed and is_usual_norm(merging.norm)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w D"]:
        if takes_map(x) and (native := self.native(x.shape[3], x.dtype)) is not None:
            program = Program(x.shape, x.dtype)
            add_merging(program, native, program.x, program.new(merged(x.shape), result=True))
            return program.run(x.contiguous())[0]
        rows = max(1, PIECE_TOKENS // (2 * x.shape[0] * x.shape[2])) * 2
        if rows >= x.shape[1] or not self.in_pieces:
            out: Tensor = self.merging(x)
            return out
        return torch.cat([self.merging(part) for part in x.split(rows, dim=1)], dim=1)

    def native(self, channels: int, dtype: torch.dtype) -> Merging | None:
        """What the library needs of it for such maps, or None where a part is not as it was made, or does not fit."""
        merging = self.merging
        reduction, norm = native_layer(merging.reduction), native_norm(merging.norm)
        if not is_plain(merging, PatchMerging) or reduction is None or norm is None:
            return None
        native = Merging(norm_first=merging.norm_first, norm=norm, reduction=reduction)
        return native if reduction.panels.dtype == dtype and native.fits(channels) else None


def merged(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """The shape of a map (B, H, W, C) after patch merging."""
    batch, height, width, channels = shape
    return batch, (height + 1) // 2, (width + 1) // 2, 2 * channels


def add_merging(program: Program, native: Merging, x: Map, out: Map) -> None:
    """Steps from x to out, some rows at a time."""
    batch, height, width, _ = x.shape
    rows = max(1, PIECE_TOKENS // (2 * width)) * 2
    for image in range(batch):
        for top in range(0, height, rows):
            count = min(rows, height - top)
            source = x.images(image, 1).rows(top, count)
            program.add_merging(native, source, out.images(image, 1).rows(top // 2, (count + 1) // 2))


class FastStages(StagesTogether):
    """All stages in one call: a program, which stays for inputs of its shape as long as the layers are what they were.

    A batch goes through a few images at a time, as many as a stage's maps of them fit into a processor's last-level
    cache, and so of the earlier stages' maps there are never more where only the last one is wanted.
    """

    def __init__(self, stages: Iterable[nn.Module]) -> None:
        super().__init__(stages)
        self._kept: _Kept | None = None

    def maps(
        self, tokens: Float[Tensor, "B h w C"], count: int | None = None
    ) -> list[Float[Tensor, "B h_i w_i C_i"]] | None:
        if not takes_map(tokens):
            return None
        key = (tuple(tokens.shape), tokens.dtype, count)
        program = self._program(key, (), lambda: self._all_maps(tokens, count))
        return None if program is None else program.run(tokens.contiguous())

    def last(self, embed: nn.Module, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"] | None:
        if not is_plain(embed, FastPatchEmbed):
            return None
        images = with_rows(embed.whole_patches(images))
        if not takes_map(images):
            return None
        key = (tuple(images.shape), images.stride(), images.dtype)
        program = self._program(key, (embed,), lambda: self._last_map(embed, images))
        return None if program is None else program.run(images)[0]

    def _program(
        self, key: tuple[object, ...], others: tuple[nn.Module, ...], make: Callable[[], Program | None]
    ) -> Program | None:
        """One made for the same, if nothing has changed since, or a new one; None where a layer is another than was
        made."""
        key, kept = (*key, *others, *self), self._kept
        if kept is None or kept.key != key or not kept.snapshot.holds() or not kept.program.is_current():
            program = make()
            if program is None:
                return None
            self._kept = kept = _Kept(key=key, snapshot=Snapshot([*others, *self]), program=program)
        return kept.program

    def _all_maps(self, tokens: Tensor, count: int | None) -> Program | None:
        program = Program(tokens.shape, tokens.dtype)
        parts = self._parts(tokens.shape, tokens.dtype, count)
        if parts is None:
            return None
        x = program.x
        for stage, merging, shape in parts:
            out = program.new(shape, result=True)
            if merging is not None:
                add_merging(program, merging, x, out)
            stage.add_to(program, x if merging is None else out, out)
            x = out
        return program

    def _last_map(self, embed: FastPatchEmbed, images: Tensor) -> Program | None:
        embedding = embed.native(images)
        shape = (len(images), *embed.map_size(images), embed.proj.out_features)
        parts = self._parts(shape, images.dtype, None)
        if embedding is None or parts is None:
            return None
        program = Program(images.shape, images.dtype)
        at_once = [images_at_once(shape) for _, _, shape in parts]
        maps = [program.new((count, *shape[1:])) for count, (_, _, shape) in zip(at_once[:-1], parts[:-1], strict=True)]
        maps.append(program.new(parts[-1][2], result=True))

        def add(index: int, first: int, out: Map) -> None:
            """Steps to the map of a stage, of as many images as it has."""
            stage, merging, _ = parts[index]
            if merging is None:
                embed.add_to(program, embedding, images, first, out)
            else:
                for start in range(0, out.shape[0], at_once[index - 1]):
                    source = maps[index - 1].images(0, min(at_once[index - 1], out.shape[0] - start))
                    add(index - 1, first + start, source)
                    add_merging(program, merging, source, out.images(start, source.shape[0]))
            stage.add_to(program, out, out)

        for start in range(0, len(images), at_once[-1]):
            add(len(parts) - 1, start, maps[-1].images(start, min(at_once[-1], len(images) - start)))
        return program

    def _parts(
        self, shape: Sequence[int], dtype: torch.dtype, count: int | None
    ) -> list[tuple[NativeStage, Merging | None, tuple[int, ...]]] | None:
        """Each stage, the merging before it, and its map's shape; None where one is not as it was made."""
        parts: list[tuple[NativeStage, Merging | None, tuple[int, ...]]] = []
        merging: Merging | None = None
        for stage in list(self)[:count]:
            native = stage.native(shape, dtype) if is_plain(stage, FastStage) else None
            if native is None or (parts and merging is None):
                return None
            parts.append((native, merging, tuple(shape)))
            after = stage.downsample
            merging = None
            if isinstance(after, FastPatchMerging) and is_plain(after, FastPatchMerging):
                merging = after.native(shape[3], dtype)
            shape = merged(shape)
        return parts

    def __getstate__(self) -> dict[str, Any]:
        """A program is of this process."""
        return {**super().__getstate__(), "_kept": None}


@dataclass(frozen=True, kw_only=True)
class _Kept:
    key: tuple[object, ...]
    snapshot: Snapshot
    program: Program


def images_at_once(shape: Sequence[int]) -> int:
    """How many images of a map (B, H, W, C) go through the layers together."""
    batch, height, width, _ = shape
    return min(batch, max(1, PIECE_TOKENS // (height * width)))


def pieces(x: Map) -> Iterator[Map]:
    """A map's images, so many at a time."""
    count = images_at_once(x.shape)
    for first in range(0, x.shape[0], count):
        yield x.images(first, min(count, x.shape[0] - first))
