"""The images that a run is measured on at its end, where its data has such a part."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from ...data.errors import DataError, NothingFoundError

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where a task's data is."""

    @property
    def kind(self) -> Any: ...
    @property
    def root(self) -> str | None: ...
    def open(self, split: Any) -> Any: ...


def open_test(source: Source, check: Callable[[Any], object] = len) -> Any | None:
    """The part "test" of a folder; None where there is none. That one cannot be used is said, and is no error.

    Args:
        source: the task's data.
        check: raises a `DataError` where nothing can be measured on it.
    """
    if source.root is None or source.kind in ("fashion_mnist", "scenes"):
        return None  # Fashion-MNIST's test images are for validation
    try:
        samples = source.open("test")
        check(samples)
    except NothingFoundError:
        return None
    except DataError as error:
        _log.warning("the part 'test' is left out: %s", error)
        return None
    return samples if len(samples) else None
