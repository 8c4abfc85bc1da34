"""Pictures of label maps: as PNG with a palette, and laid over the image with a legend. PIL only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..colours import Colour
from ..labels import IGNORED
from ..results import SegmentationMap
from .pictures import NEUTRAL, Picture, StrPath, class_colour, make_room, readable, shortened, text_font

_OPACITY = 0.55
_WHITE = (255, 255, 255)
# Classes with less of the image are not told from each other by a legend.
_LEAST_SHARE = 0.002
_MOST_ENTRIES = 24


def palette_of(result: SegmentationMap) -> tuple[Colour, ...]:
    """The classes' own colours, or `class_colour` where they have none."""
    return result.palette if result.palette is not None else tuple(map(class_colour, range(len(result.names))))


def label_map(result: SegmentationMap) -> Image.Image:
    """The map as an image: a pixel's value is its class, and the palette shows it in the class's colour.

    With more than 256 classes it is grey, of 16 bits, which has no palette.
    """
    if len(result.names) > 256:
        return Image.fromarray(result.labels.astype(np.uint16))
    picture = Image.fromarray(result.labels.astype(np.uint8))
    picture.putpalette(_colour_table(result).ravel().tolist())
    return picture


def save_label_map(result: SegmentationMap, path: StrPath) -> None:
    """Saves the `label_map` as a PNG."""
    make_room(path)
    label_map(result).save(path, format="PNG")


def segmentation_overlay(image: Picture, result: SegmentationMap) -> Image.Image:
    """An image tinted by the classes of its pixels, with borders between them and a legend of what is there beneath.

    One longer than 1,600 pixels is shrunk to that, one shorter than 480 enlarged. Pixels without a class keep their
    colour.

    Raises:
        ValueError: the image has another size than the map.
    """
    picture, _ = readable(image, shortest=480, longest=1600, result_size=result.image_size)
    labels = _nearest(result.labels, (picture.height, picture.width))
    tints = (_colour_table(result) if len(result.names) <= 256 else np.array(palette_of(result))).astype(np.float32)
    known = (labels != IGNORED) if len(result.names) <= IGNORED else np.ones_like(labels, dtype=np.bool_)
    pixels = np.array(picture)
    blended = pixels[known] * (1 - _OPACITY) + tints[labels[known]] * _OPACITY
    pixels[known] = blended.round().astype(np.uint8)
    pixels[_borders(labels)] = _WHITE
    return _with_legend(Image.fromarray(pixels), result)


def _colour_table(result: SegmentationMap) -> NDArray[np.uint8]:
    """(256, 3): a class's colour; white for all other values."""
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(result.names)] = palette_of(result)
    return table


def _nearest(labels: NDArray[np.integer[Any]], size: tuple[int, int]) -> NDArray[np.integer[Any]]:
    """The labels at the centres of the new pixels."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)
        for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def _borders(labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour is of another class."""
    borders = np.zeros(labels.shape, dtype=np.bool_)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    return borders


def _with_legend(picture: Image.Image, result: SegmentationMap) -> Image.Image:
    shown = [(label, share) for label, share in result.shares.items() if share >= _LEAST_SHARE][:_MOST_ENTRIES]
    if not shown:
        return picture
    width = max(320, picture.width)
    text_size = max(13, width // 56)
    font = text_font(text_size, [result.names[label] for label, _ in shown])
    row = round(text_size * 1.6)
    columns = max(1, min(len(shown), width // (text_size * 13)))
    rows = -(-len(shown) // columns)
    canvas = Image.new("RGB", (width, picture.height + row * rows + row), "white")
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    room = width / columns
    colours = palette_of(result)
    number = draw.textlength(" 100.0%", font=font)
    for index, (label, share) in enumerate(shown):
        column, place = divmod(index, rows)
        left, middle = column * room + row / 2, picture.height + row / 2 + row * (place + 0.5)
        half = row * 0.32
        draw.rectangle((left, middle - half, left + 2 * half, middle + half), fill=colours[label], outline=NEUTRAL)
        start = left + row
        name = shortened(result.names[label], draw, font, room - 1.4 * row - number)
        draw.text((start, middle), f"{name} {share:.1%}", fill=NEUTRAL, font=font, anchor="lm")
    return canvas
