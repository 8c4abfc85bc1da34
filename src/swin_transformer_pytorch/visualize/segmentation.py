"""Pictures of label maps: as PNG with a palette, and laid over the image with a legend. PIL only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..colours import Colour
from ..labels import IGNORED
from ..results import PanopticSegmentation, SegmentationMap
from .legend import LegendEntry, with_legend
from .pictures import Picture, StrPath, class_colour, make_room, readable

_OPACITY = 0.55
_WHITE = (255, 255, 255)


def palette_of(result: SegmentationMap | PanopticSegmentation) -> tuple[Colour, ...]:
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
    labels = nearest(result.labels, (picture.height, picture.width))
    tints = (_colour_table(result) if len(result.names) <= 256 else np.array(palette_of(result))).astype(np.float32)
    known = (labels != IGNORED) if len(result.names) <= IGNORED else np.ones_like(labels, dtype=np.bool_)
    tinted = tint(picture, tints, labels, known)
    colours = palette_of(result)
    entries = [
        LegendEntry(result.names[label], f"{share:.1%}", colours[label], share)
        for label, share in result.shares.items()
    ]
    return with_legend(tinted, entries)


def tint(
    picture: Image.Image,
    tints: NDArray[np.float32],
    places: NDArray[np.integer[Any]],
    known: NDArray[np.bool_],
) -> Image.Image:
    """A grey picture, tinted where something is known of a pixel, by the row of `tints` that is its place; between
    places are white borders.
    """
    pixels = np.array(picture)
    # Grey, for with the image's own colours those of classes would look like others'.
    grey = np.asarray(picture.convert("L").convert("RGB"))
    blended = grey[known] * (1 - _OPACITY) + tints[places[known]] * _OPACITY
    pixels[known] = blended.round().astype(np.uint8)
    pixels[_borders(places)] = _WHITE
    return Image.fromarray(pixels)


def _colour_table(result: SegmentationMap) -> NDArray[np.uint8]:
    """(256, 3): a class's colour; white for all other values."""
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(result.names)] = palette_of(result)
    return table


def nearest(labels: NDArray[np.integer[Any]], size: tuple[int, int]) -> NDArray[np.integer[Any]]:
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
