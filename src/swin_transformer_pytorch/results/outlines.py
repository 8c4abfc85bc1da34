"""Masks as outlines: polygons along the edges of pixels, from which the mask comes back exactly. Only numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST_LOOKED_AT = 1000


def outline(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The one polygon that has all of a mask's pixels inside, by the even-odd rule, and no others.

    What lies apart, and holes, are visited on the way: a line leads there and the same line back, so that it bounds
    nothing.

    Args:
        mask: (height, width).

    Returns:
        (n, 2), x and y of corners, counted from the image's upper left corner; none for a mask without pixels.
    """
    rings = sorted(_rings(mask), key=len, reverse=True)
    if not rings:
        return np.zeros((0, 2), dtype=np.int64)
    largest = rings[0]
    visits: dict[int, list[NDArray[np.int64]]] = {}
    for ring in rings[1:]:
        leave = _nearest(largest, ring[0])
        there = np.roll(ring, -_nearest(ring, largest[leave]), axis=0)
        visits.setdefault(leave, []).append(np.concatenate([there, there[:1], largest[leave : leave + 1]]))
    parts: list[NDArray[np.int64]] = []
    start = 0
    for place in sorted(visits):
        parts += [largest[start : place + 1], *visits[place]]
        start = place + 1
    return np.concatenate([*parts, largest[start:]])


def _nearest(ring: NDArray[np.int64], corner: NDArray[np.int64]) -> int:
    """Its corner nearest to one elsewhere; among a thousand, which keeps masks of many thousands of parts possible."""
    step = len(ring) // _MOST_LOOKED_AT + 1
    return int(np.abs(ring[::step] - corner).sum(axis=1).argmin()) * step


def _rings(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The closed lines between the mask's pixels and all others, as their corners (n, 2), x and y."""
    padded = np.pad(mask.astype(np.int8), 1)
    # With the mask on their right: above it to the right, beneath it to the left; upwards before it, downwards after.
    level = _sides(np.diff(padded, axis=0)[:, 1:-1])
    upright = _sides(-np.diff(padded, axis=1)[1:-1].T)[..., ::-1]
    # A level side ends where an upright one begins, and that where the next level one does.
    following = np.empty(len(level), dtype=np.int64)
    following[_by_place(level[:, 1])] = _by_place(upright[:, 0])
    after_upright = np.empty(len(level), dtype=np.int64)
    after_upright[_by_place(upright[:, 1])] = _by_place(level[:, 0])
    following = after_upright[following]
    rings, left = [], set(range(len(level)))
    while left:
        ring = [next(iter(left))]
        while (side := int(following[ring[-1]])) != ring[0]:
            ring.append(side)
        left.difference_update(ring)
        rings.append(level[ring].reshape(-1, 2))
    return rings


def _sides(steps: NDArray[np.int8]) -> NDArray[np.int64]:
    """Runs of equal steps along each line: (n, 2, 2), (place, line) of begin and end; runs of -1 go backwards."""
    padded = np.pad(steps, ((0, 0), (1, 1)))
    changes = padded[:, 1:] != padded[:, :-1]
    first, last = np.argwhere(changes & (padded[:, 1:] != 0)), np.argwhere(changes & (padded[:, :-1] != 0))
    sides = np.stack([first[:, ::-1], last[:, ::-1]], axis=1)
    backwards = padded[first[:, 0], first[:, 1] + 1] < 0
    sides[backwards] = sides[backwards, ::-1]
    return sides


def _by_place(corners: NDArray[np.int64]) -> NDArray[np.intp]:
    return np.lexsort((corners[:, 0], corners[:, 1]))
