"""How large what a checkpoint says of itself may be: anyone may have written it.

No model comes near these limits. Without them a description could name sizes that take hours to refuse, or pages.
"""

from __future__ import annotations

import math
from typing import Any

from .files import CheckpointError

_MOST_ENTRIES, _DEEPEST, _LONGEST_TEXT = 2_000_000, 8, 10_000
# The largest numbers where sizes are. Those of a model are later compared with what the file holds.
_LARGEST = {"num_classes": math.inf, "config": math.inf, "preprocessing": 65535}


def check_extent(description: dict[str, Any], source: str) -> None:
    """That a description holds plain values of a reasonable extent, so that all that is said of them later is short.

    Raises:
        CheckpointError: it does not; `source` is how the message names the file.
    """
    level: list[tuple[str, object]] = [("", description)]
    entries = 0
    for _ in range(_DEEPEST):
        inner: list[tuple[str, object]] = []
        for where, value in level:
            if isinstance(value, dict | list | tuple):
                entries += len(value)
            if wrong := f"over {_MOST_ENTRIES:,} entries" if entries > _MOST_ENTRIES else _wrong(where, value):
                raise CheckpointError(f"{source} has a damaged description of its model, with {wrong}: save it again")
            if isinstance(value, dict):
                inner += [(f"{where}.{name}".lstrip("."), part) for name, part in value.items()]
            elif isinstance(value, list | tuple):
                inner += [(where, part) for part in value]
        if not inner:
            return
        level = inner
    raise CheckpointError(
        f"{source} has a damaged description of its model, with over {_DEEPEST} lists in each other: save it again"
    )


def _wrong(where: str, value: object) -> str | None:
    """What is wrong with one value and its own keys, in a few words; None for nothing."""
    largest = _LARGEST.get(where.partition(".")[0])
    if isinstance(value, dict) and not all(isinstance(key, str) and len(key) <= 100 for key in value):
        return "keys that are not short texts"
    if isinstance(value, str):
        return f"a text of {len(value):,} letters as {where}" if len(value) > _LONGEST_TEXT else None
    if isinstance(value, int) and value.bit_length() > 63:
        return f"a number of {value.bit_length():,} bits as {where}"
    if isinstance(value, int | float):
        # Also refuses NaN.
        return f"{where}={value!r}, which is no size of a model" if largest and not abs(value) <= largest else None
    known = isinstance(value, dict | list | tuple | None)
    return None if known else f"a {type(value).__name__} as {where}"
