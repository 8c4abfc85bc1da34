"""Pictures of label maps: as PNG with a palette, and laid over the image with a legend. PIL only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..colours import Colour
from ..labels import IGNORED
from ..results import SegmentationMap
from .pictures import NEUTRAL, Picture, StrPath, class_colour, first_line, make_room, readable, shortened, text_font

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
    """A grey image, tinted by the classes of its pixels, with borders between them and a legend of them beneath.

    One longer than 1,600 pixels is shrunk to that, one shorter than 480 enlarged. Pixels without a class keep their
    colour. The legend has the largest 24 classes of at least 0.2%, and says how many others there are.

    Raises:
        ValueError: the image has another size than the map.
    """
    picture, _ = readable(image, shortest=480, longest=1600, result_size=result.image_size)
    labels = _nearest(result.labels, (picture.height, picture.width))
    tints = (_colour_table(result) if len(result.names) <= 256 else np.array(palette_of(result))).astype(np.float32)
    known = (labels != IGNORED) if len(result.names) <= IGNORED else np.ones_like(labels, dtype=np.bool_)
    pixels = np.array(picture)
    # Grey, for with the image's own colours those of classes would look like others'.
    grey = np.asarray(picture.convert("L").convert("RGB"))
    blended = grey[known] * (1 - _OPACITY) + tints[labels[known]] * _OPACITY
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
    shares = result.shares
    shown = [label for label, share in shares.items() if share >= _LEAST_SHARE][:_MOST_ENTRIES]
    if not shown:
        return picture
    width = max(320, picture.width)
    text_size = max(13, width // 56)
    texts = [f" {shares[label]:.1%}" for label in shown]
    font = text_font(text_size, [result.names[label] for label in shown])
    row = round(text_size * 1.6)
    columns = _columns(result, shown, font, width, row)
    left_out = len(shares) - len(shown)
    rows = -(-(len(shown) + (left_out > 0)) // columns)
    canvas = Image.new("RGB", (width, picture.height + row * rows + row), "white")
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    room = width / columns
    colours = palette_of(result)
    for index in range(len(shown) + (left_out > 0)):
        column, place = divmod(index, rows)
        left, middle = column * room + row / 2, picture.height + row / 2 + row * (place + 0.5)
        if index == len(shown):
            draw.text((left + row, middle), f"and {left_out:,} smaller", fill=NEUTRAL, font=font, anchor="lm")
            break
        half = row * 0.32
        colour = colours[shown[index]]
        draw.rectangle((left, middle - half, left + 2 * half, middle + half), fill=colour, outline=NEUTRAL)
        number = draw.textlength(texts[index], font=font)
        name = shortened(result.names[shown[index]], draw, font, room - 1.7 * row - number)
        draw.text((left + row, middle), f"{name}{texts[index]}", fill=NEUTRAL, font=font, anchor="lm")
    return canvas


def _columns(result: SegmentationMap, shown: Sequence[int], font: Any, width: int, row: int) -> int:
    """As many as the names leave room for; one or two even so, in which they are cut."""
    widest = max(font.getlength(first_line(result.names[label])) for label in shown) + font.getlength(" 100.0%")
    fitting = int(width // max(widest + 2 * row, row * 8))
    return max(1, min(len(shown), fitting), 2 if len(shown) > _MOST_ENTRIES // 2 else 1)
