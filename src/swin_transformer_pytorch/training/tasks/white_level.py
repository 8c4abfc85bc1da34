"""The white level that a run's images are read with, and that another is likely."""

from __future__ import annotations

from typing import Any

from ...data.images.bands import tell_white_level


def white_level_of(samples: Any) -> int | None:
    """That of a data set of files; where it is None, and the first images leave the upper bits empty, that is said."""
    known: int | None = getattr(samples, "white_level", None)
    tell_white_level(getattr(samples, "paths", ()), known, "--data.white_level {white} makes that white")
    return known
