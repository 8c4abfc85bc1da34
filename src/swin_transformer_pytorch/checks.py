"""What configurations, recipes and augmentations check of their values, and the one sentence that refuses one."""

from __future__ import annotations

import math
from typing import Any


def require(condition: bool, name: str, value: object, fix: str, *, error: type[ValueError] = ValueError) -> None:
    """Raises an `error` that names the value and the fix, unless `condition` holds and `value` is finite.

    Args:
        condition: whether the value is possible.
        name: what the user calls it, such as "window_size" or "optimizer.lr".
        value: what was given.
        fix: what to do, beginning with a verb: "use a whole number of at least 1".
        error: what to raise.
    """
    if not condition or (isinstance(value, float) and not math.isfinite(value)):
        raise error(f"{name}={value!r} is not possible: {fix}")


def is_number(value: object) -> bool:
    """Whether it is a whole number or a float; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object, least: int = 1) -> bool:
    """Whether it is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_rate(value: object) -> bool:
    """Whether it is a number in [0, 1]."""
    return is_number(value) and 0 <= float(value) <= 1  # type: ignore[arg-type]


def is_pair(value: object) -> bool:
    """Whether it is two whole numbers of at least 1, such as (height, width)."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_count, value))


def as_pair(value: Any) -> Any:
    """A whole number twice, a list as a tuple; anything else as it is, for `is_pair` to refuse."""
    return (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list) else value
