"""Millions of paths in little memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class PathTable(Sequence[str]):
    """Paths as one text and where each ends in it: their bytes and 8 more a path, where a list of texts takes about 60.

    No Python object belongs to a path, so processes that are forked go on sharing the arrays, whose pages no reference
    count is written to.

    Attributes:
        text: uint8, the bytes of all paths as the file system has them.
        ends: int64, where each ends in it.
        places: uint32, which of the paths these are; None for all.
    """

    def __init__(
        self, text: NDArray[np.uint8], ends: NDArray[np.int64], places: NDArray[np.uint32] | None = None
    ) -> None:
        self.text, self.ends, self.places = text, ends, places

    def select(self, places: NDArray[np.uint32]) -> PathTable:
        """Some of all paths, by their places in the table, with the same arrays."""
        return PathTable(self.text, self.ends, places)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return self.text.nbytes + self.ends.nbytes + (0 if self.places is None else self.places.nbytes)

    def __len__(self) -> int:
        return len(self.ends if self.places is None else self.places)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if self.places is not None:
            place = int(self.places[place])
        start = self.ends[place - 1] if place else 0
        return os.fsdecode(self.text[start : self.ends[place]].tobytes())


class PathCollector:
    """Paths that are still being found; none is kept as a text."""

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("q")

    def add(self, path: str) -> None:
        self._text += os.fsencode(path)
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends)

    def table(self) -> PathTable:
        """All of them, in the order of their coming. None can be added afterwards."""
        return PathTable(np.frombuffer(self._text, dtype=np.uint8), np.frombuffer(self._ends, dtype=np.int64))
