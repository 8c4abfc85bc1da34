"""Which token of a map is in which slot of which window, as tensors: one graph then holds for every map size.

Windows have always as many slots as the configured one. Where a map is smaller than a window, slots beyond the smaller
window's sides stand for nothing. Exporters see no branch on a size, which they would answer for the example alone, no
remainder, and no negative shift.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from ..sizes import Size

ABSENT_SCORE = -1e4
"""Added to the scores of slots that stand for nothing: float16 has it, and after the softmax they are zero."""


class _Axis(NamedTuple):
    """Where the positions of one axis of a map go.

    Attributes:
        number: windows along it.
        source: the position of each slot, or `length` for padding and slots that stand for nothing.
        absent: slots that stand for nothing.
        is_cut: whether the shift brought a window's tokens together.
        window: the window of each position.
        slot: and its slot there.
    """

    number: Integer[Tensor, ""]
    source: Integer[Tensor, "windows slots"]
    absent: Bool[Tensor, " slots"]
    is_cut: Bool[Tensor, " windows"]
    window: Integer[Tensor, " length"]
    slot: Integer[Tensor, " length"]

    @classmethod
    def of(cls, length: int, side: Tensor, shift: Tensor, slots: int) -> Self:
        number = torch.div(length + side - 1, side, rounding_mode="floor")
        count: Any = number.item()  # by `int` it would be the example's
        torch._check(count >= 1)
        cycle, slot, index = number * side, torch.arange(slots), torch.arange(count)
        source = (index * side)[:, None] + slot + shift
        source = torch.where(source >= cycle, source - cycle, source)
        source = torch.where((slot < side) & (source < length), source, length)
        place = torch.arange(length) - shift
        place = torch.where(place < 0, place + cycle, place)
        window = torch.div(place, side, rounding_mode="floor")
        return cls(number, source, slot >= side, (index == number - 1) & (shift > 0), window, place - window * side)


class Places(NamedTuple):
    """Where the tokens of a map go.

    Attributes:
        source: the token of every slot, window by window; H * W where there is none.
        kind: how the shift cut a window: 0 not at all, 1 between columns, 2 between rows, 3 both.
        absent: what is added to the scores of each slot of a window.
        back: the slot of every token.
    """

    source: Integer[Tensor, " windows*N"]
    kind: Integer[Tensor, " windows"]
    absent: Float[Tensor, " N"]
    back: Integer[Tensor, " tokens"]

    @classmethod
    def of(cls, map_size: Size, window_size: Size, *, shifted: bool, single_window: str) -> Self:
        """For a map of (height, width) tokens, by the rule of `choose_window`."""
        height, width = map_size
        side = [torch.full((), length) for length in window_size]
        shift = [torch.full((), length // 2 if shifted else 0) for length in window_size]
        if single_window == "unshift":
            sides = [torch.full((), length) for length in map_size]
            single = (sides[0] <= window_size[0]) | (sides[1] <= window_size[1])
            if window_size[0] == window_size[1]:
                sides = [torch.minimum(*sides)] * 2
            side = [torch.where(single, torch.minimum(a, b), b) for a, b in zip(sides, side, strict=True)]
            shift = [torch.where(single, 0, length) for length in shift]
        rows, columns = (_Axis.of(*axis) for axis in zip(map_size, side, shift, window_size, strict=True))
        y, x = rows.source[:, None, :, None], columns.source[None, :, None, :]
        source = torch.where((y < height) & (x < width), y * width + x, height * width)
        absent = (rows.absent[:, None] | columns.absent) * ABSENT_SCORE
        window = rows.window[:, None] * columns.number + columns.window
        back = (window * window_size[0] + rows.slot[:, None]) * window_size[1] + columns.slot
        kind = 2 * rows.is_cut[:, None] + columns.is_cut.long()
        return cls(source.flatten(), kind.flatten(), absent.flatten(), back.flatten())
