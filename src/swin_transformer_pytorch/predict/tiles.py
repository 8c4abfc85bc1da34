"""Large images in overlapping tiles: where they lie, and one list of objects of what was found in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.segmentation_inference import window_starts
from ..results import Detections
from ..rle import encode_counts, mask_counts

_AGREE = 0.5  # IoU, within what two tiles share, from which on two boxes are of one object
_EDGE = 2.0  # pixels from a tile's edge within which a box is cut by it

Box = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of an image: left, top, right and bottom edges in its pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        return image[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True, kw_only=True)
class _Object:
    """A tile's object, its box in the image's pixels; `cut` by an edge of the tile that is none of the image."""

    tile: int
    place: int
    box: Box
    score: float
    label: int
    cut: bool


def tiles_of(size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]) -> list[Tile]:
    """The tiles of an image of (height, width), row by row; the last of a row and of a column end with the image."""
    (height, width), (tall, wide) = size, crop
    tops, lefts = (window_starts(n, c, s) for n, c, s in zip(size, crop, stride, strict=True))
    return [
        Tile(left=left, top=top, right=min(left + wide, width), bottom=min(top + tall, height))
        for top in tops
        for left in lefts
    ]


def merge_tiles(found: Sequence[Detections], tiles: Sequence[Tile], size: tuple[int, int]) -> Detections:
    """The objects of an image (height, width) by what was found in its tiles, each once, the best first.

    Two tiles speak of one object where their boxes agree within what both see (an IoU of 0.5 there). Of an object that
    some tile sees whole, that tile's box and mask count, the best if there are several, and the parts that others see
    are left out, those that were taken for another class by a lower score too. An object that no tile sees whole gets
    the box around all of its parts, and their pixels; its score is the best part's.
    """
    if len(tiles) == 1:
        return found[0]
    objects = sorted(_objects(found, tiles, size), key=lambda one: -one.score)
    kept: list[list[_Object]] = []
    for one in objects:
        if not one.cut and not any(one.label == other.label and _agree(one, other, tiles) for (other,) in kept):
            kept.append([one])
    whole = [one for (one,) in kept]
    parts = [one for one in objects if one.cut and not any(_is_part(one, other, tiles) for other in whole)]
    kept += _groups(parts, tiles)
    kept.sort(key=lambda group: -group[0].score)
    names = [found[group[0].tile].names[group[0].place] for group in kept]
    with_masks = all(one.mask_rles is not None for one in found)
    return Detections(
        boxes_xyxy=np.array([_around(group) for group in kept], dtype=np.float32).reshape(-1, 4),
        scores=np.array([group[0].score for group in kept], dtype=np.float32),
        labels=np.array([group[0].label for group in kept], dtype=np.int64),
        names=tuple(names),
        image_size=size,
        mask_rles=tuple(_mask(group, found, tiles, size) for group in kept) if with_masks else None,
    )


def _objects(found: Sequence[Detections], tiles: Sequence[Tile], size: tuple[int, int]) -> list[_Object]:
    objects = []
    for index, (result, tile) in enumerate(zip(found, tiles, strict=True)):
        edges = np.array([tile.left, tile.top, tile.right, tile.bottom], dtype=np.float32)
        inner = edges != np.array([0, 0, size[1], size[0]], dtype=np.float32)
        boxes = result.boxes_xyxy + edges[[0, 1, 0, 1]]
        cut = ((np.abs(boxes - edges) <= _EDGE) & inner).any(axis=1)
        scores, labels = result.scores.tolist(), result.labels.tolist()
        objects += [
            _Object(tile=index, place=at, box=boxes[at], score=scores[at], label=labels[at], cut=bool(cut[at]))
            for at in range(len(result))
        ]
    return objects


def _agree(one: _Object, other: _Object, tiles: Sequence[Tile]) -> bool:
    if one.tile == other.tile:
        return False
    a, b = tiles[one.tile], tiles[other.tile]
    left, top, right, bottom = max(a.left, b.left), max(a.top, b.top), min(a.right, b.right), min(a.bottom, b.bottom)
    if left >= right or top >= bottom:
        return False
    seen = [np.clip(it.box, [left, top, left, top], [right, bottom, right, bottom]) for it in (one, other)]
    x, y = (min(seen[0][i + 2], seen[1][i + 2]) - max(seen[0][i], seen[1][i]) for i in (0, 1))
    inside = max(float(x), 0.0) * max(float(y), 0.0)
    areas = sum(float((box[2] - box[0]) * (box[3] - box[1])) for box in seen)
    return inside > 0 and inside >= _AGREE * (areas - inside)


def _is_part(one: _Object, whole: _Object, tiles: Sequence[Tile]) -> bool:
    return (one.label == whole.label or one.score <= whole.score) and _agree(one, whole, tiles)


def _groups(parts: Sequence[_Object], tiles: Sequence[Tile]) -> list[list[_Object]]:
    """The parts of each object; parts have come by score, and so they stay."""
    group_of = list(range(len(parts)))
    for i, j in combinations(range(len(parts)), 2):
        if parts[i].label == parts[j].label and _agree(parts[i], parts[j], tiles):
            old, new = max(group_of[i], group_of[j]), min(group_of[i], group_of[j])
            group_of = [new if group == old else group for group in group_of]
    return [[part for part, own in zip(parts, group_of, strict=True) if own == group] for group in sorted({*group_of})]


def _around(group: Sequence[_Object]) -> Box:
    boxes = np.stack([one.box for one in group])
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _mask(group: Sequence[_Object], found: Sequence[Detections], tiles: Sequence[Tile], size: tuple[int, int]) -> bytes:
    """The pixels of all parts as run lengths. These go down the columns, so only those of the tiles are laid out."""
    height, width = size
    left, right = min(tiles[one.tile].left for one in group), max(tiles[one.tile].right for one in group)
    pixels = np.zeros((height, right - left), dtype=np.bool_)
    for one in group:
        tile = tiles[one.tile]
        replace(tile, left=tile.left - left, right=tile.right - left).of(pixels)[...] |= found[one.tile].mask(one.place)
    counts = mask_counts(pixels).copy()
    counts[0] += left * height
    after = (width - right) * height
    if len(counts) % 2:  # the last run is of zeros
        counts[-1] += after
    elif after:
        counts = np.append(counts, after)
    return encode_counts(counts)
