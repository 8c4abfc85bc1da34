"""What all pictures share: sizes that can be read, text that fits, colours that differ. PIL only."""

from __future__ import annotations

import colorsys
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..colours import Colour
from ..whole import replacing

StrPath: TypeAlias = str | os.PathLike[str]
Picture: TypeAlias = Image.Image | NDArray[np.uint8]

NEUTRAL = "#24292f"
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def as_rgb(image: Picture) -> Image.Image:
    """An RGB image from a PIL image or a uint8 array (H, W), (H, W, 1) or (H, W, 3)."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    return image.convert("RGB")


def readable_scale(size: tuple[int, int], *, shortest: int, longest: int) -> float:
    """By what an image is to be enlarged or shrunk, so that its longer side is between the two."""
    return min(max(1.0, shortest / max(size)), longest / max(size))


def resized(image: Image.Image, scale: float) -> Image.Image:
    """Scaled; from twice its size on, each pixel stays a square."""
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BICUBIC)


def make_room(path: StrPath) -> None:
    """Makes the folder that a file goes to."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def cut(name: str, most: int = 18) -> str:
    """A name of at most so many letters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def shortened(name: str, draw: ImageDraw.ImageDraw, font: Any, room: float) -> str:
    """A name's first line, cut to so many pixels."""
    text = name.splitlines()[0] if name else ""
    while text and draw.textlength(text, font=font) > room:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text


def class_colours(count: int) -> tuple[Colour, ...]:
    """That many colours, neighbours of which are far apart; the first ones are the same whatever the count."""
    colours = []
    for index in range(count):
        # Steps of the golden ratio round the circle never come close to where they were; brightness tells apart
        # those that do after a while.
        saturation, value = ((0.72, 0.95), (0.9, 0.72), (0.5, 1.0))[index // 8 % 3]
        red, green, blue = colorsys.hsv_to_rgb((0.58 + index * _GOLDEN_RATIO) % 1.0, saturation, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours)


def text_colour(background: Colour) -> str:
    """Black or white, whichever reads better on it."""
    red, green, blue = background
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def picture_grid(
    pictures: Sequence[Picture], path: StrPath, *, titles: Sequence[str] | None = None, columns: int | None = None
) -> None:
    """Saves pictures side by side in rows, each shrunk or enlarged to the same width.

    Args:
        pictures: PIL images or uint8 arrays.
        path: where; its ending is the format.
        titles: a line above each.
        columns: pictures in a row; None for about as many as rows.
    """
    if not pictures or (titles is not None and len(titles) != len(pictures)):
        known = "no" if titles is None else str(len(titles))
        raise ValueError(f"{len(pictures)} pictures and {known} titles make no grid; give one of each")
    columns = min(len(pictures), columns or math.ceil(math.sqrt(len(pictures) * 1.4)))
    images = [as_rgb(picture) for picture in pictures]
    width = min(max(image.width for image in images), max(240, 1600 // columns))
    cells = [resized(image, width / image.width) for image in images]
    gap, text_size = max(6, width // 50), max(12, width // 26)
    line = round(text_size * 1.5) if titles is not None else 0
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + line for row in rows]
    canvas = Image.new("RGB", (gap + columns * (width + gap), gap + sum(heights) + gap * len(rows)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=text_size)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        left, top = gap + column * (width + gap), gap + sum(heights[:row]) + gap * row
        if titles is not None:
            draw.text((left, top + line / 2), shortened(titles[index], draw, font, width), NEUTRAL, font, anchor="lm")
        canvas.paste(cell, (left, top + line))
    make_room(path)
    with replacing(Path(path)) as temporary:
        canvas.save(temporary)
