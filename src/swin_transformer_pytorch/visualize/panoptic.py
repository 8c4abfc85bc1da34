"""Pictures of segments, laid over the image with a legend of their classes. PIL only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..colours import Colour
from ..results import PanopticSegmentation
from .legend import LegendEntry, with_legend
from .pictures import Picture, readable
from .segmentation import nearest, palette_of, tint

# How far the things of one class go towards white or black, in turn: the first has the class's own colour.
_SHADES = (0.0, 0.35, -0.3, 0.18, -0.15, 0.5)


def panoptic_overlay(image: Picture, result: PanopticSegmentation) -> Image.Image:
    """A grey image, tinted by the segments of its pixels, with borders between them and a legend of classes beneath.

    Stuff has the colour of its class, and things lighter and darker shades of theirs in turn. One longer than 1,600
    pixels is shrunk to that, one shorter than 480 enlarged. Pixels of no segment keep their colour. The legend has the
    largest 24 classes of at least 0.2%, with how many things there are, and says how many others there are.

    Raises:
        ValueError: the image has another size than the map.
    """
    picture, _ = readable(image, shortest=480, longest=1600, result_size=result.image_size)
    ids = nearest(result.segment_ids, (picture.height, picture.width))
    numbers = np.array([0, *(segment.id for segment in result.segments)])
    order = np.argsort(numbers)
    places = order[np.searchsorted(numbers[order], ids)]
    colours = palette_of(result)
    tints = np.array([(0, 0, 0), *segment_colours(result, colours)], dtype=np.float32)
    return with_legend(tint(picture, tints, places, places > 0), _entries(result, colours))


def segment_colours(result: PanopticSegmentation, colours: Sequence[Colour]) -> list[Colour]:
    """A colour for each segment, of those of the classes by label."""
    before: Counter[int] = Counter()
    shades = []
    for segment in result.segments:
        shades.append(_shaded(colours[segment.label], _SHADES[before[segment.label] % len(_SHADES)]))
        before[segment.label] += segment.is_thing
    return shades


def _shaded(colour: Colour, shade: float) -> Colour:
    red, green, blue = (round(part + ((255 - part) if shade > 0 else part) * shade) for part in colour)
    return red, green, blue


def _entries(result: PanopticSegmentation, colours: Sequence[Colour]) -> list[LegendEntry]:
    areas: Counter[int] = Counter()
    things: Counter[int] = Counter()
    for segment in result.segments:
        areas[segment.label] += segment.area
        things[segment.label] += segment.is_thing
    entries = []
    for label, area in areas.most_common():
        share = area / result.segment_ids.size
        number = f"x {things[label]}, " if things[label] > 1 else ""
        entries.append(LegendEntry(result.names[label], f"{number}{share:.1%}", colours[label], share))
    return entries
