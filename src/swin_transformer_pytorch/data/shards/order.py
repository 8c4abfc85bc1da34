"""In which order images of shards are seen: any place in an epoch is computed, none is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

Draw = Callable[..., np.random.Generator]
"""Random numbers by whole numbers, such as (epoch, lane, window)."""


class WindowedOrder:
    """Each image once an epoch, by shards in random order and, among those of a window, in random order.

    The shards of an epoch, shuffled, stand in one row with their images. It is cut into `lanes` parts of the same
    number of images, give or take one; in each, `window` successive shards are shuffled together. A step's images on
    all devices, the global batch, come from all lanes alike, those of a lane side by side. So the image at a position
    depends on seed, epoch and position, and where there is more than one lane on the size of the global batch, and on
    nothing else: not on how many devices share the batch, nor on how many processes read.

    Args:
        counts: images of each shard, in the order of the data set.
        window: shards that are shuffled together; None for all.
        lanes: see above.
        global_batch: images of a step on all devices.

    Raises:
        DataError: the lanes do not divide the global batch.
    """

    def __init__(self, counts: NDArray[np.int64], *, window: int | None, lanes: int = 1, global_batch: int = 1) -> None:
        if global_batch % lanes:
            raise DataError(
                f"data.shards.lanes={lanes} does not divide the {global_batch} images of a step on all devices; use a "
                "number that does, such as that of the machines"
            )
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.window, self.lanes, self.global_batch = window or max(1, len(counts)), lanes, global_batch

    def __len__(self) -> int:
        return int(self.starts[-1])

    def epoch(self, draw: Draw, epoch: int) -> EpochOrder:
        """That of an epoch."""
        return EpochOrder(self, draw, epoch)


class EpochOrder:
    """A `WindowedOrder` in an epoch. It keeps the window that each lane was last asked for."""

    def __init__(self, order: WindowedOrder, draw: Draw, epoch: int) -> None:
        self.order, self._draw, self._epoch = order, draw, epoch
        self.shards = draw(epoch).permutation(len(order.starts) - 1)
        counts = np.diff(order.starts)[self.shards]
        self._row = np.concatenate([[0], np.cumsum(counts)])  # where each shard begins in the row
        self._windows: dict[int, tuple[int, int, NDArray[np.int64]]] = {}

    def places(self, start: int, count: int) -> NDArray[np.int64]:
        """The images at so many successive positions, which lie in one global batch."""
        return np.concatenate([self._of_lane(*read) for read in self._reads(start, count)])

    def windows(self, start: int, count: int) -> tuple[tuple[int, int], ...]:
        """(lane, number of its window) where these positions begin, a lane each."""
        return tuple((lane, self._window_at(lane, place)) for lane, place, _ in self._reads(start, count))

    def shards_of(self, windows: tuple[tuple[int, int], ...], then: EpochOrder) -> list[int]:
        """The shards of windows, then those of each one's next; after the last that is the first of `then`."""
        now = [shard for lane, window in windows for shard in self._shards_of(lane, window)]
        for lane, window in windows:
            now += self._shards_of(lane, window + 1) or then._shards_of(lane, 0)
        return list(dict.fromkeys(now))

    def _reads(self, start: int, count: int) -> Iterator[tuple[int, int, int]]:
        """(lane, place in it, how many) of successive positions."""
        share = self.order.global_batch // self.order.lanes
        batch, first = divmod(start, self.order.global_batch)
        assert first + count <= self.order.global_batch, "a device's batch is a part of the global one"
        for lane in range(first // share, (first + count - 1) // share + 1):
            begin, end = max(first, lane * share), min(first + count, (lane + 1) * share)
            yield lane, batch * share + begin % share, end - begin

    def _lane(self, lane: int) -> tuple[int, int]:
        """Where a lane begins and ends in the row."""
        return len(self.order) * lane // self.order.lanes, len(self.order) * (lane + 1) // self.order.lanes

    def _shard_at(self, position: int) -> int:
        """The place among the shuffled shards of the one that has a position of the row."""
        return int(np.searchsorted(self._row, position, side="right")) - 1

    def _window_at(self, lane: int, position: int) -> int:
        start, _ = self._lane(lane)
        return (self._shard_at(start + position) - self._shard_at(start)) // self.order.window

    def _shards_of(self, lane: int, window: int) -> list[int]:
        start, end = self._lane(lane)
        first = self._shard_at(start) + window * self.order.window
        last = min(first + self.order.window, self._shard_at(end - 1) + 1 if end > start else first)
        return [int(shard) for shard in self.shards[first:last]]

    def _of_lane(self, lane: int, position: int, count: int) -> NDArray[np.int64]:
        """The images at successive positions of a lane, which may lie in several windows."""
        found = []
        while count:
            begin, images = self._shuffled(lane, position)
            taken = images[position - begin : position - begin + count]
            found.append(taken)
            position, count = position + len(taken), count - len(taken)
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _shuffled(self, lane: int, position: int) -> tuple[int, NDArray[np.int64]]:
        """Where in the lane the window begins that has this position, and its images in their order."""
        window = self._window_at(lane, position)
        kept = self._windows.get(lane)
        if kept is None or kept[0] != window:
            start, end = self._lane(lane)
            first = self._shard_at(start) + window * self.order.window
            last = min(first + self.order.window, len(self.shards))
            row, ranges = self._row, []
            for place in range(first, last):
                begin, stop = max(start, row[place]), min(end, row[place + 1])
                base = self.order.starts[self.shards[place]] - row[place]
                ranges.append(np.arange(begin, max(begin, stop)) + base)
            images = self._draw(self._epoch, 1 + lane, window).permutation(np.concatenate(ranges))
            self._windows[lane] = kept = (window, int(max(start, row[first])) - start, images)
        return kept[1], kept[2]
