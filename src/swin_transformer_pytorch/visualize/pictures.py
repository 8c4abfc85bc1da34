"""What all pictures share: sizes that can be read, text that fits, colours that differ. PIL only."""

from __future__ import annotations

import colorsys
import functools
import importlib.util
import logging
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..colours import Colour
from ..data.images.decode import read_image
from ..data.images.remote import fetched
from ..names import composed
from ..whole import replacing

_log = logging.getLogger(__name__)

StrPath: TypeAlias = str | os.PathLike[str]
Picture: TypeAlias = Image.Image | NDArray[np.uint8] | str | os.PathLike[str] | bytes

NEUTRAL = "#24292f"
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def as_rgb(image: Picture) -> Image.Image:
    """An RGB image from a PIL image, a uint8 array (H, W) or (H, W, C), a path, an address, a file's bytes, or a tensor
    (C, H, W) as a `Predictor` takes it.

    Raises:
        ImageError: it is none, or cannot be read.
    """
    if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
        return read_image(fetched(image))
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size and image.shape[2:] in ((), (1,), (3,)):
        return Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image).convert("RGB")
    from ..data.images.pixels import as_picture, as_pixels  # which load torch

    return as_picture(as_pixels(image, 3))


def check_ending(path: StrPath) -> None:
    """Refuses a path whose ending says no picture's format."""
    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise ValueError(
            f"{path} ends in {Path(path).suffix or 'nothing'!r}, which is no picture's format; name it .png or .jpg"
        )


def picture_of(image: Picture, result_size: tuple[int, int]) -> Image.Image:
    """An RGB image; a `ValueError` where it has another size than the result's, (height, width)."""
    picture = as_rgb(image)
    if picture.size != result_size[::-1]:
        raise ValueError(
            f"the image has {picture.height} x {picture.width} pixels and the result is for {result_size[0]} x "
            f"{result_size[1]}; give that image (its path, for a photo that is turned as it is shown)"
        )
    return picture


def readable(
    image: Picture, *, shortest: int, longest: int, result_size: tuple[int, int] | None = None
) -> tuple[Image.Image, float]:
    """An RGB image whose longer side is between the two, and by what it was enlarged or shrunk to that.

    Raises:
        ValueError: the image has another size than `result_size`, (height, width).
    """
    picture = as_rgb(image) if result_size is None else picture_of(image, result_size)
    side = max(picture.size)
    scale = min(max(1.0, shortest / side), longest / side)
    return resized(picture, scale), scale


def resized(image: Image.Image, scale: float) -> Image.Image:
    """Scaled; from twice its size on, each pixel stays a square."""
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BICUBIC)


def make_room(path: StrPath) -> None:
    """Makes the folder that a file goes to."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def cut(name: str, most: int = 18) -> str:
    """A name of at most so many letters."""
    name = composed(name)  # fonts and layouts draw an accent of its own beside its letter
    return name if len(name) <= most else f"{name[: most - 1]}…"


def first_line(name: str) -> str:
    """What pictures have of a name of several lines."""
    return (composed(name).splitlines() or [""])[0]


def shortened(name: str, draw: ImageDraw.ImageDraw, font: Any, room: float) -> str:
    """A name's first line, cut to so many pixels."""
    text = first_line(name)
    while text and draw.textlength(text, font=font) > room:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text


def text_font(size: float, texts: Iterable[str]) -> Any:
    """The font for some texts of one picture, of so many pixels.

    It is Pillow's own where that has all of their letters. For others, é among them, it is DejaVu Sans, which comes
    with matplotlib. What neither has is drawn as boxes, which `tell_boxes` says.
    """
    texts = [composed(text) for text in texts]
    strange = {letter for text in texts for letter in text if not letter.isascii()}
    lacking = {path: {letter for letter in strange if not _has(path, letter)} for path in (None, _dejavu_sans())}
    path = min(lacking, key=lambda one: len(lacking[one]))
    tell_boxes(texts, lacking[path])
    return _font(path, size)


def tell_boxes(texts: Iterable[str], lacking: set[str]) -> None:
    """Logs, once for each, the texts that have letters that the font lacks."""
    fix = "give it a name in Latin, Greek or Cyrillic letters for pictures (JSON keeps any)"
    if _dejavu_sans() is None:
        fix = "pip install 'swin-transformer-pytorch[train]' brings a font that has more letters"
    for text in texts:
        if lacking.intersection(text):
            _say_once(f"{text!r} is drawn with empty boxes for letters that the font lacks: {fix}")


@functools.cache
def _say_once(warning: str) -> None:
    _log.warning("%s", warning)


def _font(path: Path | None, size: float) -> Any:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


@functools.cache
def _has(path: Path | None, letter: str) -> bool:
    """Whether a font draws a letter otherwise than what is no character."""
    return bytes(_font(path, 20).getmask(letter)) != bytes(_font(path, 20).getmask("\uffff"))


def _dejavu_sans() -> Path | None:
    """Where it is; None without matplotlib, which is not imported, as that takes long."""
    package = importlib.util.find_spec("matplotlib")
    path = Path(package.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if package and package.origin else None
    return path if path is not None and path.is_file() else None


def class_colour(label: int) -> Colour:
    """The colour of a class that has none of its own; those of neighbours are far apart."""
    # Steps of the golden ratio round the circle never come close to where they were; brightness tells apart those
    # that do after a while.
    saturation, value = ((0.72, 0.95), (0.9, 0.72), (0.5, 1.0))[label // 8 % 3]
    red, green, blue = colorsys.hsv_to_rgb((0.58 + label * _GOLDEN_RATIO) % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


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
    draw, font = ImageDraw.Draw(canvas), text_font(text_size, titles or ())
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        left, top = gap + column * (width + gap), gap + sum(heights[:row]) + gap * row
        if titles is not None:
            draw.text((left, top + line / 2), shortened(titles[index], draw, font, width), NEUTRAL, font, anchor="lm")
        canvas.paste(cell, (left, top + line))
    make_room(path)
    with replacing(Path(path)) as temporary:
        canvas.save(temporary)
