"""V1 bias tables for another window as the official fine-tuning of masked pre-training (SimMIM) resizes them.

Offsets of the trained window are put at geometrically growing distances that reach as far as the new window does: near
ones keep their place, far ones are stretched. Between them goes a cubic spline (official: `utils_simmim.py`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..sizes import Size

_LEAST_RATIO, _LARGEST_RATIO, _PRECISION = 1.01, 1.5, 1e-6  # of the official bisection
LEAST_WINDOW = 3
"""Tokens of a side, for a cubic to go through."""


def resize_bias_table_geometrically(table: Tensor, source_window: Size, target_window: Size) -> Tensor:
    """A V1 bias table for another window.

    Args:
        table: ((2h - 1) * (2w - 1), heads) for the source window (h, w), row by row.
    """
    rows, columns = (
        torch.from_numpy(_weights(source, target)) for source, target in zip(source_window, target_window, strict=True)
    )
    grid = table.double().reshape(len(rows[0]), len(columns[0]), -1)
    resized = torch.einsum("ab,cd,bdh->ach", rows.to(table.device), columns.to(table.device), grid)
    return resized.flatten(0, 1).contiguous().to(table.dtype)


def _weights(source: int, target: int) -> NDArray[np.float64]:
    """(2 target - 1, 2 source - 1): what each new offset takes of the old ones, along one axis."""
    places = _places(source - 1, target - 1)
    # The official spline does not go on beyond its last point.
    wanted = np.clip(np.arange(1 - target, target, dtype=np.float64), places[0], places[-1])
    return _spline(places, wanted)


def _places(source: int, target: int) -> NDArray[np.float64]:
    """Where the old offsets -source to source lie on the scale of the new ones, -target to target."""
    left, right = _LEAST_RATIO, _LARGEST_RATIO
    ratio = left
    while right - left > _PRECISION:
        ratio = (left + right) / 2
        if (1 - ratio**source) / (1 - ratio) > target:
            right = ratio
        else:
            left = ratio
    side = np.cumsum(ratio ** np.arange(source))
    return np.concatenate([-side[::-1], [0.0], side])


def _spline(places: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """(wanted, places): what the cubic spline through values at `places` takes of each of them, at each wanted place.

    Its first two and its last two pieces are one cubic each ("not a knot"), as in SciPy.
    """
    count, step = len(places), np.diff(places)
    # The second derivatives at the places, of values that are 1 at one of them and 0 elsewhere.
    system, right = np.zeros((count, count)), np.zeros((count, count))
    for i in range(1, count - 1):
        system[i, i - 1 : i + 2] = step[i - 1], 2 * (step[i - 1] + step[i]), step[i]
        right[i, i - 1 : i + 2] = 6 / step[i - 1], -6 / step[i - 1] - 6 / step[i], 6 / step[i]
    system[0, :3] = step[1], -step[0] - step[1], step[0]
    system[-1, -3:] = step[-1], -step[-2] - step[-1], step[-2]
    bend = np.linalg.solve(system, right)
    piece = np.clip(np.searchsorted(places, wanted, side="right") - 1, 0, count - 2)
    h, b = step[piece][:, None], ((wanted - places[piece]) / step[piece])[:, None]
    a, values = 1 - b, np.eye(count)
    cubic = ((a**3 - a) * bend[piece] + (b**3 - b) * bend[piece + 1]) * h**2 / 6
    return np.asarray(a * values[piece] + b * values[piece + 1] + cubic)
