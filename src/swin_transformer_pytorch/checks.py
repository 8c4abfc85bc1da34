"""What configurations, recipes and augmentations check of their values, and the one sentence that refuses one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def require(condition: bool, name: str, value: object, fix: str, *, error: type[ValueError] = ValueError) -> None:
    """Raises an `error` that names value and fix, unless `condition` holds and `value`, or all in it, is finite.

    Args:
        condition: whether the value is possible.
        name: what the user calls it, such as "window_size" or "optimizer.lr".
        value: what was given.
        fix: what to do, beginning with a verb: "use a whole number of at least 1".
        error: what to raise.
    """
    numbers = value if isinstance(value, list | tuple) else (value,)
    if not condition or any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise error(f"{name}={shown(value)} is not possible: {fix}")


def shown(value: object) -> str:
    """A value as messages show it, cut where it is long."""
    try:
        return cut(repr(value))
    except ValueError:
        return "a number of thousands of digits"


def cut(text: str, most: int = 200) -> str:
    """The beginning of a text that is longer than `most` characters."""
    return text if len(text) <= most else f"{text[:most]} ... ({len(text):,} characters)"


def some(names: Sequence[str], most: int = 10) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def plural(count: int, what: str) -> str:
    """Such as "1 image" or "2,000 images"."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def is_number(value: object) -> bool:
    """Whether it is a whole number or a float; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object, least: int = 1, most: float = math.inf) -> bool:
    """Whether it is a whole number from `least` to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_span(value: object) -> bool:
    """Whether it is two numbers above 0, the smaller first."""
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(is_number(one) for one in value)
    return pair and 0 < value[0] <= value[1]  # type: ignore[index]


def is_rate(value: object) -> bool:
    """Whether it is a number in [0, 1]."""
    return is_number(value) and 0 <= float(value) <= 1  # type: ignore[arg-type]


def is_pair(value: object) -> bool:
    """Whether it is two whole numbers from 1 to 65,535, such as (height, width)."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(is_count(side, 1, 65535) for side in value)


def as_pair(value: Any) -> Any:
    """A whole number twice, a list as a tuple; anything else as it is, for `is_pair` to refuse."""
    return (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list) else value
