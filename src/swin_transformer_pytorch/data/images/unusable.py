"""The one rule for an image of a data set that cannot be used.

What shows when a data set is opened is an error there. What is met later, a file that cannot be read or a size that
contradicts the annotation, is an `ImageError` of that image alone: it is named once, left out of evaluation, validation
and prediction, or replaced by the next image in training, and counted. More than a fifth of the images is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import torch

from ..errors import DataError, ImageError

MOST = 0.2
"""The share of a data set's images that may be unusable."""

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Made = TypeVar("Made")
Item_co = TypeVar("Item_co", covariant=True)


def item_or_problem(make: Callable[[], Item]) -> Item | str:
    """What `make` gives, or what is wrong with its image, as text, which travels between processes and into batches."""
    try:
        return make()
    except ImageError as error:
        return str(error)


def summary(count: int, total: int, what: str) -> str:
    """One line for the end, empty where all could be used; `what` is such as "training images"."""
    too_many = f", more than {MOST:.0%}" * (count > MOST * total)
    return f"{count:,} of {total:,} {what} could not be used{too_many}" if count else ""


def check_share(count: int, total: int, what: str) -> None:
    """Raises a `DataError` where more than `MOST` of the images could not be used."""
    if count > MOST * total:
        raise DataError(
            f"{summary(count, total, what)}: the messages above name them; repair the data set, or take them out of it"
        )


class Unusable:
    """Which images could not be used, each named once.

    Args:
        total: images that there are.
        what: what to call them, such as "validation images".
        say: what a new problem is said with.

    Attributes:
        problems: what is wrong, an image each.
    """

    def __init__(self, total: int, what: str, *, say: Callable[[str], object] | None = None) -> None:
        self.total = total
        self.what = what
        self.say = say or (lambda problem: _log.warning("skipped: %s", problem))
        self.problems: dict[str, None] = {}

    def usable(self, items: list[Any]) -> list[Any]:
        """The items that are no texts; the others are counted.

        Raises:
            DataError: by now there are too many.
        """
        for problem in (item for item in items if isinstance(item, str)):
            if problem not in self.problems:
                self.problems[problem] = None
                self.say(problem)
        check_share(len(self.problems), self.total, self.what)
        return [item for item in items if not isinstance(item, str)]

    def add(self, problems: list[str]) -> None:
        """Counts what other processes have said. Raises as `usable` does."""
        self.problems |= dict.fromkeys(problems)
        check_share(len(self.problems), self.total, self.what)

    def summary(self) -> str:
        """See `summary`."""
        return summary(len(self.problems), self.total, self.what)


class Samples(Protocol[Item_co]):
    """A data set."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Item_co: ...


class ReplacedSamples(Generic[Item]):
    """A data set for training: for an image that cannot be used the next one stands in, whatever the order of access.

    Worker processes share the knowledge of which these are, so each is named once.
    """

    def __init__(self, samples: Samples[Item]) -> None:
        self.samples = samples
        self._unusable = torch.zeros(len(samples), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        return self.made(index, lambda item: item)

    def made(self, index: int, make: Callable[[Item], Made]) -> Made:
        """What `make` gives of an item, or of the next one of which neither getting it nor `make` fails."""
        for step in range(len(self)):
            place = (index + step) % len(self)
            found = item_or_problem(lambda: make(self.samples[place]))  # noqa: B023
            if not isinstance(found, str):
                return found
            if not self._unusable[place]:
                self._unusable[place] = True
                _log.warning("skipped: %s", found)
        raise DataError(f"none of the {len(self)} training images can be read")

    @property
    def unusable(self) -> list[int]:
        """Which by now are known to be unusable."""
        indices: list[int] = self._unusable.nonzero().flatten().tolist()
        return indices

    def add(self, unusable: list[int]) -> None:
        """Counts those that other processes have named. Raises as `check` does."""
        self._unusable[unusable] = True
        self.check()

    def check(self) -> None:
        """Raises a `DataError` where by now there are too many."""
        check_share(self._count(), len(self), "training images")

    def summary(self) -> str:
        """See `summary`."""
        return summary(self._count(), len(self), "training images")

    def _count(self) -> int:
        return int(self._unusable.count_nonzero())  # asked after each batch, of millions of images
