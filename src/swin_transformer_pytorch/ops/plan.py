"""Which row of a flattened map each token of each window is: shift, padding and partition as one list of indices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sizes import Size
from .padding import padding
from .windows import shift_mask


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """The windows of a batch of maps, sorted by which seams of the cyclic shift they contain.

    Windows of one kind share one shift mask, so that at most four masks exist, whatever the map and the batch.

    Attributes:
        rows: (windows, N) row of each token in the flattened (B * H * W) map; B * H * W stands for padding.
        groups: one (range of windows, shift whose seam they contain) for each kind of window.
        size: B * H * W.
        padded: whether any window holds padding.
    """

    rows: Tensor
    groups: tuple[tuple[range, Size], ...]
    size: int
    padded: bool
    window_size: Size

    @classmethod
    def of(cls, x: Tensor, window_size: Size, shift_size: Size) -> WindowPlan:
        """For a map of x's (B, H, W, ...)."""
        batch, height, width = x.shape[:3]
        size = batch * height * width
        lines = []
        for length, window, shift in zip((height, width), window_size, shift_size, strict=True):
            padded_length = length + padding(length, window)
            position = (torch.arange(padded_length, device=x.device) + shift) % padded_length
            lines.append(torch.where(position < length, position, size).view(-1, window))
        rows, columns = lines[0][:, None, :, None], lines[1][None, :, None, :]
        inside = (rows < size) & (columns < size)
        tokens = torch.where(inside, rows * width + columns, size).flatten(2)  # (window rows, window columns, N)

        first = torch.arange(batch, device=x.device)[:, None, None] * (height * width)
        parts: list[Tensor] = []
        groups: list[tuple[range, Size]] = []
        for window_rows, window_columns, seam in _kinds(tokens.shape[0], tokens.shape[1], shift_size):
            kind = tokens[window_rows, window_columns].reshape(1, -1, tokens.shape[2])
            start = groups[-1][0].stop if groups else 0
            groups.append((range(start, start + batch * kind.shape[1]), seam))
            parts.append(torch.where(kind < size, kind + first, size).flatten(0, 1))
        padded = bool(height % window_size[0] or width % window_size[1])
        return cls(rows=torch.cat(parts), groups=tuple(groups), size=size, padded=padded, window_size=window_size)

    def biases(self, bias: Tensor) -> Iterator[tuple[range, Tensor]]:
        """Each kind of window with its bias (heads, N, N), shift mask included."""
        for windows, seam in self.groups:
            if any(seam):
                mask = shift_mask(self.window_size, self.window_size, seam, device=bias.device, dtype=bias.dtype)
                yield windows, bias + mask
            else:
                yield windows, bias

    def inverse(self) -> Tensor:
        """(B * H * W,): for each row of the flattened map, its place in the flattened `rows`."""
        places = torch.empty(self.size + 1, dtype=torch.long, device=self.rows.device)
        places[self.rows.flatten()] = torch.arange(self.rows.numel(), device=self.rows.device)
        return places[:-1]

    def packed_rows(self, parts: int, heads: int) -> Tensor:
        """Gathers rows ordered (token, part, head) into the order (part, window, head, N)."""
        part = torch.arange(parts, device=self.rows.device)[:, None, None, None] * heads
        head = torch.arange(heads, device=self.rows.device)[:, None]
        return (self.rows[:, None] * (parts * heads) + part + head).flatten()

    def unpacked_rows(self, parts: int, heads: int) -> Tensor:
        """The inverse of `packed_rows`, without the padding."""
        windows, tokens = self.rows.shape
        place = self.inverse()
        place = place // tokens * (heads * tokens) + place % tokens
        part = torch.arange(parts, device=place.device)[:, None] * (windows * heads * tokens)
        head = torch.arange(heads, device=place.device) * tokens
        return (place[:, None, None] + part + head).flatten()


def _kinds(rows: int, columns: int, shift_size: Size) -> Iterator[tuple[slice, slice, Size]]:
    """Window rows, window columns, and the shift whose seam those windows contain: the last row's and column's."""

    def split(count: int, shift: int) -> list[tuple[slice, int]]:
        if not shift:
            return [(slice(0, count), 0)]
        return [(slice(0, count - 1), 0), (slice(count - 1, count), shift)]

    for window_rows, shift_y in split(rows, shift_size[0]):
        for window_columns, shift_x in split(columns, shift_size[1]):
            if window_rows.stop > window_rows.start and window_columns.stop > window_columns.start:
                yield window_rows, window_columns, (shift_y, shift_x)
