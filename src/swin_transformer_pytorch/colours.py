"""Colours of classes."""

from __future__ import annotations

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def is_colour(value: object) -> bool:
    """Whether it is three whole numbers of 0 to 255."""
    if not (isinstance(value, list | tuple) and len(value) == 3):
        return False
    return all(isinstance(part, int) and 0 <= part <= 255 for part in value)
