"""The legend beneath a picture: what the colours of its pixels stand for, and how much of it they have. PIL only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from ..colours import Colour
from .pictures import NEUTRAL, first_line, shortened, text_font

# Classes with less of the image are not told from each other by a legend.
_LEAST_SHARE = 0.002
_MOST_ENTRIES = 24


class LegendEntry(NamedTuple):
    """A class: its name and what is written after it, its colour, and the part of the image that it has, in [0, 1]."""

    name: str
    text: str
    colour: Colour
    share: float


def with_legend(picture: Image.Image, entries: Sequence[LegendEntry]) -> Image.Image:
    """The picture above a legend of at most 24 entries of at least 0.2%, which says how many others there are.

    Args:
        picture: any.
        entries: the largest first.
    """
    shown = [entry for entry in entries if entry.share >= _LEAST_SHARE][:_MOST_ENTRIES]
    if not shown:
        return picture
    width = max(320, picture.width)
    text_size = max(13, width // 56)
    font = text_font(text_size, [entry.name for entry in shown])
    row = round(text_size * 1.6)
    columns = _columns(shown, font, width, row)
    left_out = len(entries) - len(shown)
    rows = -(-(len(shown) + (left_out > 0)) // columns)
    canvas = Image.new("RGB", (width, picture.height + row * rows + row), "white")
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    room = width / columns
    for index in range(len(shown) + (left_out > 0)):
        column, place = divmod(index, rows)
        left, middle = column * room + row / 2, picture.height + row / 2 + row * (place + 0.5)
        if index == len(shown):
            draw.text((left + row, middle), f"and {left_out:,} smaller", fill=NEUTRAL, font=font, anchor="lm")
            break
        half = row * 0.32
        entry = shown[index]
        draw.rectangle((left, middle - half, left + 2 * half, middle + half), fill=entry.colour, outline=NEUTRAL)
        text = f" {entry.text}"
        name = shortened(entry.name, draw, font, room - 1.7 * row - draw.textlength(text, font=font))
        draw.text((left + row, middle), f"{name}{text}", fill=NEUTRAL, font=font, anchor="lm")
    return canvas


def _columns(shown: Sequence[LegendEntry], font: Any, width: int, row: int) -> int:
    """As many as the names leave room for; one or two even so, in which they are cut."""
    widest = max(font.getlength(first_line(entry.name)) for entry in shown)
    widest += max(font.getlength(text) for text in (" 100.0%", *(f" {entry.text}" for entry in shown)))
    fitting = int(width // max(widest + 2 * row, row * 8))
    return max(1, min(len(shown), fitting), 2 if len(shown) > _MOST_ENTRIES // 2 else 1)
