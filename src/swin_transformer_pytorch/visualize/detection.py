"""Pictures of detections: boxes, masks, names and scores laid over the image. PIL only."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..colours import Colour
from ..results import Detections
from .pictures import Picture, class_colour, cut, readable, text_colour, text_font

_Box: TypeAlias = tuple[float, float, float, float]
_MASK_OPACITY = 0.42
_MOST_LINES = 12  # inside a box, that are looked at for a free place


def detection_overlay(image: Picture, result: Detections, *, scores: bool = True) -> Image.Image:
    """An image with its objects, each in the colour of its class: mask, box, name and score, the last if asked for.

    One longer than 1,600 pixels is shrunk to that, one shorter than 480 enlarged.

    Raises:
        ValueError: the image has another size than the one that the objects were found in.
    """
    picture, scale = readable(image, shortest=480, longest=1600, result_size=result.image_size)
    pixels = np.array(picture)
    colours = [class_colour(label) for label in result.labels.tolist()]
    thickness = max(2, round(max(picture.size) / 400))
    # The best object lies on top.
    for index in reversed(range(len(result))):
        if result.mask_rles is not None:
            _lay_mask(pixels, result.mask(index), result.boxes_xyxy[index], colours[index], scale)
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    boxes = [_inside(box, scale, picture.size) for box in result.boxes_xyxy.tolist()]
    for index in reversed(range(len(result))):
        draw.rectangle(boxes[index], outline=colours[index], width=thickness)
    names = [f"{cut(name, 24)} {score:.0%}" for name, score in zip(result.names, result.scores, strict=True)]
    _write_names(draw, names if scores else [cut(name, 24) for name in result.names], boxes, colours, picture.size)
    return picture


def _inside(box: list[float], scale: float, size: tuple[int, int]) -> _Box:
    left, top, right, bottom = (side * scale for side in box)
    width, height = size
    left, top = min(max(left, 0), width - 2), min(max(top, 0), height - 2)
    return left, top, max(left + 1, min(right, width) - 1), max(top + 1, min(bottom, height) - 1)


def _lay_mask(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_], box: NDArray[np.float32], colour: Colour, scale: float
) -> None:
    """Tints the mask's pixels of the scaled image and draws its outline, in place."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    # Only where the mask is: a picture of many small objects is quick all the same.
    top, left = round(rows[0] * scale), round(columns[0] * scale)
    part = Image.fromarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8) * 255)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    shape = np.asarray(part.resize(size, Image.Resampling.BILINEAR)) >= 128
    window = pixels[top : top + size[1], left : left + size[0]]
    shape = shape[: window.shape[0], : window.shape[1]]
    tint = np.array(colour, dtype=np.float32)
    inner = window[shape] * (1 - _MASK_OPACITY) + tint * _MASK_OPACITY
    window[shape] = inner.round().astype(np.uint8)
    window[shape & ~_eroded(shape)] = colour


def _eroded(shape: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours are all in the shape."""
    padded = np.pad(shape, 1)
    inner: NDArray[np.bool_] = padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return inner


def _write_names(
    draw: ImageDraw.ImageDraw,
    names: Sequence[str],
    boxes: list[_Box],
    colours: Sequence[Colour],
    size: tuple[int, int],
) -> None:
    """Names at free places beside the boxes, the best objects' first. One for which no place is free is left out."""
    # Of a flat picture names would else cover all.
    font = text_font(max(12, round(min(max(size) / (56 if len(boxes) <= 30 else 64), min(size) / 12))), names)
    taken: list[_Box] = []
    for index, box in enumerate(boxes):
        text = names[index]
        width, height = draw.textlength(text, font=font) + 8, font.size * 1.35
        places = [_kept(place, size) for place in _places(box, width, height)]
        place = next((place for place in places if not any(_overlap(place, other) for other in taken)), None)
        if place is None:
            continue
        taken.append(place)
        draw.rectangle(place, fill=colours[index])
        middle = (place[1] + place[3]) / 2
        draw.text((place[0] + 4, middle), text, fill=text_colour(colours[index]), font=font, anchor="lm")


def _places(box: _Box, width: float, height: float) -> Iterator[_Box]:
    """Above, at the top inside, below, at the bottom inside, each flush left, flush right and between; to the sides;
    lines inside. All touch their box: in a crowd others would seem to be of another.
    """
    left, top, right, bottom = box
    edges = (top - height, top, bottom, bottom - height)
    inside = [top + line * height for line in range(1, min(_MOST_LINES, int((bottom - top) / height) - 1))]
    for x, y in itertools.chain(
        ((x, y) for y in edges for x in (left, right - width)),
        ((left + (right - width - left) * part, y) for y in edges for part in (0.5, 0.25, 0.75)),
        ((x, y) for y in (top, bottom - height) for x in (right, left - width)),
        ((left + (right - width - left) * part, y) for y in inside for part in (0, 1, 0.5)),
    ):
        yield x, y, x + width, y + height


def _kept(place: _Box, size: tuple[int, int]) -> _Box:
    """Moved into the picture."""
    left, top, right, bottom = place
    x = max(0.0, min(left, size[0] - (right - left)))
    y = max(0.0, min(top, size[1] - (bottom - top)))
    return x, y, x + right - left, y + bottom - top


def _overlap(one: _Box, other: _Box) -> bool:
    """With a pixel between them, which tells names of one class apart."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
