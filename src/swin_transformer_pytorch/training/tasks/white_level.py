"""The white level that a run's images are read with, and that another is likely."""

from __future__ import annotations

import logging
from typing import Any

from ...data.images.bands import likely_white_level

_LOOKED_AT = 16

_log = logging.getLogger(__name__)


def white_level_of(samples: Any) -> int | None:
    """That of a data set of files; where it is None, and the first images leave the upper bits empty, that is said."""
    known: int | None = getattr(samples, "white_level", None)
    paths = getattr(samples, "paths", None)
    if known is None and paths and (white := likely_white_level(paths[:_LOOKED_AT])):
        text = (
            "the first training images have 16 bits and values of at most %d, of 65535 for white, which is nearly black"
        )
        _log.warning(f"{text}: --data.white_level %d makes that white", white, white)
    return known
