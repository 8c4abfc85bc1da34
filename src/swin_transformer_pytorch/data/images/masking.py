"""Which parts of an image masked pre-training hides: whole squares, drawn anew for each image."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool

from ...sizes import Size

_FIXED = 0x51A5  # apart from other uses of small numbers as seeds


def count_hidden(squares: int, ratio: float) -> int:
    """How many of so many squares are hidden: the share, rounded up."""
    # 0.7 * 10 is a hair above 7 in binary.
    return math.ceil(round(squares * ratio, 6))


def random_mask(generator: np.random.Generator, grid: Size, ratio: float) -> Bool[np.ndarray, "rows columns"]:
    """Of each square of a grid (rows, columns) whether it is hidden (arXiv 2111.09886, section 3.2).

    As in the official code, one random order is drawn and its first squares are hidden.

    Args:
        generator: where the randomness comes from.
        grid: rows and columns of squares.
        ratio: the share that is hidden, see `count_hidden`.
    """
    squares = grid[0] * grid[1]
    mask = np.zeros(squares, dtype=np.bool_)
    mask[generator.permutation(squares)[: count_hidden(squares, ratio)]] = True
    return mask.reshape(grid)


def fixed_mask(place: int, grid: Size, ratio: float) -> Bool[np.ndarray, "rows columns"]:
    """The mask that the image at that place of a data set has whenever it is measured or shown."""
    return random_mask(np.random.default_rng([_FIXED, place]), grid, ratio)


def patch_mask(mask: Bool[np.ndarray, "rows columns"], unit: int, patch_size: Size) -> Bool[np.ndarray, "height width"]:
    """The same for each patch of (height, width) pixels, where a square has `unit` pixels a side."""
    return mask.repeat(unit // patch_size[0], axis=0).repeat(unit // patch_size[1], axis=1)
