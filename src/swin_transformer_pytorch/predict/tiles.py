"""Large images in overlapping tiles: where they lie, and one list of objects of what was found in each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.segmentation_inference import window_starts
from ..results import Detections
from ..rle import encode_counts, placed_counts

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


class _Neighbours:
    """Objects by their tiles: an object is compared with those of overlapping tiles alone, however many there are."""

    def __init__(self, tiles: Sequence[Tile]) -> None:
        edges = np.array([(tile.left, tile.top, tile.right, tile.bottom) for tile in tiles])
        self._overlapping = [
            np.flatnonzero((edges[:, :2] < own[2:]).all(axis=1) & (own[:2] < edges[:, 2:]).all(axis=1)).tolist()
            for own in edges
        ]
        self._objects: dict[int, list[_Object]] = defaultdict(list)

    def __iter__(self) -> Iterator[_Object]:
        return (one for objects in self._objects.values() for one in objects)

    def add(self, one: _Object) -> None:
        self._objects[one.tile].append(one)

    def near(self, one: _Object) -> Iterator[_Object]:
        return (other for tile in self._overlapping[one.tile] for other in self._objects.get(tile, ()))


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
    whole = _Neighbours(tiles)
    for one in objects:
        if not one.cut and not any(one.label == other.label and _agree(one, other, tiles) for other in whole.near(one)):
            whole.add(one)
    parts = [one for one in objects if one.cut and not any(_is_part(one, other, tiles) for other in whole.near(one))]
    kept = [[one] for one in whole] + _groups(parts, tiles)
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
    seen = _Neighbours(tiles)
    group_of: dict[tuple[int, int], list[_Object]] = {}
    for one in parts:
        group = [one]
        for other in seen.near(one):
            own = group_of[other.tile, other.place]
            if own is not group and one.label == other.label and _agree(one, other, tiles):
                own += group
                group = own
                group_of |= {(part.tile, part.place): group for part in own}
        group_of[one.tile, one.place] = group
        seen.add(one)
    groups = {id(group): group for group in group_of.values()}
    return [sorted(group, key=lambda one: -one.score) for group in groups.values()]


def _around(group: Sequence[_Object]) -> Box:
    boxes = np.stack([one.box for one in group])
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _mask(group: Sequence[_Object], found: Sequence[Detections], tiles: Sequence[Tile], size: tuple[int, int]) -> bytes:
    """The pixels of all parts as run lengths; only those of the tiles are laid out."""
    own = [tiles[one.tile] for one in group]
    left, top = min(tile.left for tile in own), min(tile.top for tile in own)
    shape = max(tile.bottom for tile in own) - top, max(tile.right for tile in own) - left
    pixels = np.zeros(shape, dtype=np.bool_)
    for one, tile in zip(group, own, strict=True):
        rows, columns = slice(tile.top - top, tile.bottom - top), slice(tile.left - left, tile.right - left)
        pixels[rows, columns] |= found[one.tile].mask(one.place)
    return encode_counts(placed_counts(pixels, (top, left), size))
