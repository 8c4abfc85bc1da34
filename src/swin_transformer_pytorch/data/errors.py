"""What can be wrong with a person's images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..checks import some as some

_SHOWN = 5

_log = logging.getLogger(__name__)


class ImageError(ValueError):
    """An image that cannot be read or used. The message names the file and the fix."""


class DataError(ValueError):
    """A data set that cannot be used. The message names the folder or file and the fix."""


class NothingFoundError(DataError):
    """A folder in which nothing is that was looked for."""


class StoreError(DataError):
    """A file in a store that cannot be fetched, or is not what it was. The message names it and the fix.

    It stops a run, unlike an image that cannot be used. Where it comes out of a process that reads images, PyTorch
    makes another of it, with the traceback as its message, of which this keeps what the first one said.
    """

    def __init__(self, message: str) -> None:
        mark = f"{type(self).__name__}: "
        super().__init__(message.rpartition(mark)[2].strip() if message.startswith("Caught ") else message)


class MissingFileError(StoreError):
    """A file that is not there, or may not be read."""


class SampleError(ImageError, DataError):
    """One image of a data set whose annotation or label map does not fit it, so that this image cannot be used."""


def report(path: Path, kind: str, problems: Iterable[str]) -> None:
    """Raises a `DataError` that lists the first five problems, if there are any."""
    found = list(problems)
    if not found:
        return
    more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    lines = "".join(f"\n  {problem}" for problem in found[:_SHOWN])
    raise DataError(f"{path} has broken {kind}; correct or remove them:{lines}{more}")


class Findings:
    """What was met in reading a file of annotations.

    Attributes:
        source: the file or folder that messages name.
        notes: how often something was left out or taken for something else, to be said once.
        problems: what is wrong, each with its place.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.notes: Counter[str] = Counter()
        self.problems: list[str] = []

    @contextmanager
    def naming(self, where: str) -> Iterator[None]:
        """Makes a `ValueError`, such as of a number that is none, a problem of that place."""
        try:
            yield
        except (ValueError, OverflowError, TypeError, KeyError, AttributeError) as error:
            self.problems.append(f"{where}: {f'it has no {error}' if isinstance(error, KeyError) else error}")

    def say_notes(self) -> None:
        """Logs what was noted."""
        for note, count in (+self.notes).items():
            _log.warning("%s: %s %s", self.source, f"{count:,}", note)
