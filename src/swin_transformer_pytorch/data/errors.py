"""What can be wrong with a person's images."""

from __future__ import annotations

from collections.abc import Sequence


class ImageError(ValueError):
    """An image that cannot be read or used. The message names the file and the fix."""


class DataError(ValueError):
    """A data set that cannot be used. The message names the folder or file and the fix."""


class NothingFoundError(DataError):
    """A folder in which nothing is that was looked for."""


class SampleError(ImageError, DataError):
    """One image of a data set whose annotation or label map does not fit it, so that this image cannot be used."""


def some(names: Sequence[str], most: int = 10) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
