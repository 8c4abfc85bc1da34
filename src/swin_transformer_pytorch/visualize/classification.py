"""Pictures of classifications: an annotated image, and images in rows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..results import Classification
from .charts import new_figure, save_figure
from .pictures import NEUTRAL, Picture, StrPath, as_rgb, cut, readable, shortened, text_font

RIGHT, WRONG = "#1a7f37", "#cf222e"


def classification_overlay(image: Picture, result: Classification) -> Image.Image:
    """An image with its likeliest classes and their scores beneath it.

    One longer than 1,024 pixels is shrunk to that, one shorter than 320 enlarged.
    """
    picture, _ = readable(image, shortest=320, longest=1024)
    width = max(320, picture.width)
    text_size = max(14, width // 32)
    font = text_font(text_size, result.names)
    row = round(text_size * 1.7)
    canvas = Image.new("RGB", (width, picture.height + row * len(result.labels) + row // 2), "white")
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    margin = row // 3
    number = round(draw.textlength("100.0% ", font=font))
    for place, (name, score) in enumerate(zip(result.names, result.scores, strict=True)):
        top = picture.height + row // 4 + row * place
        filled = margin + round((width - 2 * margin) * score)
        draw.rectangle((margin, top + 2, filled, top + row - 2), fill="#b6e3ff" if place == 0 else "#ddf4ff")
        text = shortened(name, draw, font, width - 3 * margin - number)
        draw.text((2 * margin, top + row / 2), text, fill=NEUTRAL, font=font, anchor="lm")
        draw.text((width - 2 * margin, top + row / 2), f"{score:.1%}", fill=NEUTRAL, font=font, anchor="rm")
    return canvas


def prediction_grid(
    images: Sequence[Picture],
    results: Sequence[Classification],
    targets: Sequence[int] | None,
    path: StrPath,
    *,
    classes: Sequence[str] | None = None,
) -> None:
    """Saves images in rows, each with its likeliest class and score; green where that is right, red where it is not.

    Args:
        images: PIL images or uint8 arrays, (H, W) or (H, W, 3); a few dozen are readable.
        results: one for each image.
        targets: the true class index of each image, or None where they are not known.
        path: where; its ending is the format.
        classes: class names by index, for the true names of mistaken images. None: as far as the results tell them.
    """
    count = len(images)
    if count == 0 or len(results) != count or (targets is not None and len(targets) != count):
        known = "no" if targets is None else str(len(targets))
        raise ValueError(f"{count} images, {len(results)} results and {known} targets make no grid; give one of each")
    names = {label: name for result in results for label, name in zip(result.labels, result.names, strict=True)}
    names |= dict(enumerate(classes or ()))
    captions, right = [], 0
    for place, result in enumerate(results):
        title, colour = f"{cut(result.names[0])} {result.scores[0]:.0%}", NEUTRAL
        if targets is not None:
            target = int(targets[place])
            correct = target == result.labels[0]
            right += correct
            colour = RIGHT if correct else WRONG
            title = f"\n{title}" if correct else f"{title}\nis {cut(names.get(target, f'class {target}'))}"
        captions.append((title, colour))
    told = f"{right} of {count} right (green); mistakes are red, with the true class below"
    _save_grid(images, captions, path, told if targets is not None else None)


def label_grid(
    images: Sequence[Picture], found: Sequence[Sequence[str]], targets: Sequence[Sequence[str]], path: StrPath
) -> None:
    """Saves images in rows, each with the names of all classes found in it; green where these are the right ones.

    Where they are not, they are red, with the true ones below. Arguments are as `prediction_grid`'s, one list an image.
    """
    captions, right = [], 0
    for names, truth in zip(found, targets, strict=True):
        correct = {*names} == {*truth}
        right += correct
        title = _wrapped(names) if correct else f"{_wrapped(names)}\n{_wrapped(truth, 'is ')}"
        captions.append((title, RIGHT if correct else WRONG))
    told = f"{right} of {len(captions)} with all labels right (green); others are red, with the true labels below"
    _save_grid(images, captions, path, told)


def _wrapped(names: Sequence[str], before: str = "") -> str:
    return textwrap.fill(before + (", ".join(map(cut, names)) or "no label"), 26, max_lines=3, placeholder=" …")


def _save_grid(
    images: Sequence[Picture], captions: Sequence[tuple[str, str]], path: StrPath, title: str | None
) -> None:
    """Images in rows, each with its caption above it and framed in the caption's colour."""
    count, lines = len(images), max(text.count("\n") for text, _ in captions)
    columns = min(count, max(4, math.ceil(math.sqrt(count * 1.4))))
    rows = math.ceil(count / columns)
    figure = new_figure(1.75 * columns, (2.05 + 0.15 * max(1, lines)) * rows + 0.5)
    for place, (image, (text, colour)) in enumerate(zip(images, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, place + 1)
        pixels = np.asarray(as_rgb(image))
        axes.imshow(pixels, interpolation="nearest" if max(pixels.shape[:2]) < 100 else "antialiased")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(text, color=colour, fontsize=9)
        for edge in axes.spines.values():
            edge.set_edgecolor(colour)
            edge.set_linewidth(2.5)
    if title is not None:
        figure.suptitle(title, fontsize=11)
    save_figure(figure, path)
