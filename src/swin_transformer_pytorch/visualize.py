"""Pictures of results: annotated images, prediction grids, confusion matrices, training curves.

Only `annotate` works without the [train] extra; the others draw with matplotlib.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .extras import require
from .results import Classification

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

StrPath: TypeAlias = str | os.PathLike[str]
Picture: TypeAlias = Image.Image | NDArray[np.uint8]

RIGHT, WRONG, NEUTRAL = "#1a7f37", "#cf222e", "#24292f"
_LINES = ("#0969da", "#bc4c00", "#1a7f37", "#8250df")
# Up to so many classes each cell has room for its number and each row for its name.
_MOST_NAMED_CLASSES = 30


def annotate(image: Picture, result: Classification, path: StrPath) -> None:
    """Saves an image with its likeliest classes and their scores beneath it.

    An image longer than 1,024 pixels is shrunk to that, one shorter than 320 enlarged. The path's ending is the format.
    """
    picture = _as_pil(image).convert("RGB")
    scale = min(max(1.0, 320 / max(picture.size)), 1024 / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BICUBIC)

    width = max(320, picture.width)
    text_size = max(14, width // 32)
    font = ImageFont.load_default(size=text_size)
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
        text = _shortened(name, draw, font, width - 3 * margin - number)
        draw.text((2 * margin, top + row / 2), text, fill=NEUTRAL, font=font, anchor="lm")
        draw.text((width - 2 * margin, top + row / 2), f"{score:.1%}", fill=NEUTRAL, font=font, anchor="rm")
    _make_room(path)
    canvas.save(path)


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
    columns = min(count, max(4, math.ceil(math.sqrt(count * 1.4))))
    rows = math.ceil(count / columns)
    figure = _figure(1.75 * columns, 2.2 * rows + 0.5)
    right = 0
    for place, (image, result) in enumerate(zip(images, results, strict=True)):
        axes = figure.add_subplot(rows, columns, place + 1)
        pixels = np.asarray(_as_pil(image).convert("RGB"))
        axes.imshow(pixels, interpolation="nearest" if max(pixels.shape[:2]) < 100 else "antialiased")
        axes.set_xticks([])
        axes.set_yticks([])
        title, colour = f"{_cut(result.names[0])} {result.scores[0]:.0%}", NEUTRAL
        if targets is not None:
            target = int(targets[place])
            correct = target == result.labels[0]
            right += correct
            colour = RIGHT if correct else WRONG
            title = f"\n{title}" if correct else f"{title}\nis {_cut(names.get(target, f'class {target}'))}"
        axes.set_title(title, color=colour, fontsize=9)
        for edge in axes.spines.values():
            edge.set_edgecolor(colour)
            edge.set_linewidth(2.5)
    if targets is not None:
        figure.suptitle(f"{right} of {count} right (green); mistakes are red, with the true class below", fontsize=11)
    _save(figure, path)


def confusion_matrix_picture(matrix: NDArray[Any], classes: Sequence[str], path: StrPath) -> None:
    """Saves a confusion matrix: a row a true class, coloured by the part of its images that each class was given.

    Up to 30 classes are named and counted; with more, rows and columns are class indices and the ten commonest
    mistakes are listed beside them.

    Args:
        matrix: counts, (num_classes, num_classes): true class by predicted class.
        classes: names by index.
        path: where; its ending is the format.
    """
    matrix = np.asarray(matrix)
    size = len(classes)
    if matrix.shape != (size, size) or size == 0:
        raise ValueError(f"a matrix of shape {matrix.shape} does not go with {size} class names; give one a class")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    named = size <= _MOST_NAMED_CLASSES
    figure = _figure(*((3.2 + 0.48 * size, 2.4 + 0.48 * size) if named else (12.5, 8.0)))
    axes = figure.add_subplot() if named else figure.subplots(1, 2, width_ratios=(2.2, 1))[0]
    colors = require("matplotlib.colors", extra="train")
    # The square root makes rare mistakes visible among hundreds of classes.
    norm = colors.PowerNorm(1.0 if named else 0.5, vmin=0, vmax=1)
    # A thousand classes have more cells than the picture pixels, and a plain average would hide all off the diagonal.
    image = axes.imshow(_shrunk(shares), cmap="Blues", norm=norm, interpolation="nearest", extent=_extent(size))
    total = int(matrix.sum())
    accuracy = f"{np.trace(matrix) / total:.2%} of {total:,} images right" if total else "no images"
    axes.set_title(accuracy, fontsize=12, pad=10)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if named:
        ticks, labels = range(size), [_cut(name, 24) for name in classes]
        axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, labels)
        _write_counts(axes, matrix, shares)
    else:
        _list_mistakes(figure.axes[1], matrix, classes)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("part of the true class")
    bar.ax.yaxis.set_major_formatter(require("matplotlib.ticker", extra="train").PercentFormatter(1.0))
    _save(figure, path)


def training_curve(history: Sequence[Mapping[str, float]], path: StrPath) -> None:
    """Saves losses and accuracies over a run.

    Args:
        history: a mapping for each point, with "epoch" (or "step"; else its place counts), and any values whose
            names hold "loss", or "top1", "top5" or "accuracy" (in [0, 1]), such as "train_loss" and "val_top1".
            A point may lack some.
        path: where; its ending is the format.
    """
    axis = next((name for name in ("epoch", "step") if history and all(name in point for point in history)), None)
    names = list(dict.fromkeys(name for point in history for name in point))
    losses = [name for name in names if "loss" in name]
    accuracies = [name for name in names if any(part in name for part in ("top1", "top5", "accuracy"))]
    panels = [(group, title) for group, title in ((losses, "loss"), (accuracies, "accuracy")) if group]
    if not panels:
        raise ValueError(f"the history of {len(history)} points has no loss and no accuracy; it has: {names}")
    figure = _figure(5.6 * len(panels), 4.0)
    for place, (group, title) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for name, colour in zip(group, _LINES * len(group), strict=False):
            points = [
                (point[axis] if axis else row + 1, point[name]) for row, point in enumerate(history) if name in point
            ]
            marker = "o" if len(points) <= 40 else None
            axes.plot(*zip(*points, strict=True), label=_readable(name), color=colour, marker=marker, markersize=3.5)
        axes.set_title(title)
        axes.set_xlabel(axis or "point")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        ticker = require("matplotlib.ticker", extra="train")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
        if title == "accuracy":
            axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
            best = max(point[group[0]] for point in history if group[0] in point)
            axes.set_title(f"accuracy ({_readable(group[0])}: best {best:.2%})")
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    # Not pyplot: it keeps global state and asks for a display.
    figure: Figure = require("matplotlib.figure", extra="train").Figure(figsize=(width, height), layout="constrained")
    return figure


def _save(figure: Figure, path: StrPath) -> None:
    _make_room(path)
    with warnings.catch_warnings():
        # Class names in a script that the font lacks are shown as boxes; a warning for each helps nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, dpi=120, facecolor="white", bbox_inches="tight", pad_inches=0.12)


def _make_room(path: StrPath) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def _as_pil(image: Picture) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    return Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def _cut(name: str, most: int = 18) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _shortened(name: str, draw: ImageDraw.ImageDraw, font: Any, room: float) -> str:
    text = name.splitlines()[0] if name else ""
    while text and draw.textlength(text, font=font) > room:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text


def _readable(name: str) -> str:
    words = name.replace("/", " ").replace("_", " ")
    return words.replace("top1", "top-1").replace("top5", "top-5").replace("val ", "validation ")


def _extent(size: int) -> tuple[float, float, float, float]:
    return (-0.5, size - 0.5, size - 0.5, -0.5)


def _shrunk(shares: NDArray[np.float64], most: int = 500) -> NDArray[np.float64]:
    """The largest share in each block of cells, so that the picture has at most `most` a side."""
    step = math.ceil(len(shares) / most)
    short = -len(shares) % step
    padded = np.pad(shares, ((0, short), (0, short)))
    side = len(padded) // step
    largest: NDArray[np.float64] = padded.reshape(side, step, side, step).max(axis=(1, 3))
    return largest


def _write_counts(axes: Axes, matrix: NDArray[Any], shares: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(matrix > 0).tolist():
        colour = "white" if shares[row, column] > 0.55 else NEUTRAL
        count = int(matrix[row, column])
        size = 9 if count < 10_000 else 7
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=size)


def _list_mistakes(axes: Axes, matrix: NDArray[Any], classes: Sequence[str]) -> None:
    mistakes = np.array(matrix)
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(mistakes, axis=None, kind="stable")[::-1][:10]
    lines = []
    for row, column in zip(*np.unravel_index(order, mistakes.shape), strict=True):
        if mistakes[row, column] > 0:
            seen, truth = _cut(classes[column], 30), _cut(classes[row], 30)
            lines.append(f"{int(mistakes[row, column])} x {truth} ({row})\n      taken for {seen} ({column})")
    axes.axis("off")
    axes.set_title("commonest mistakes", fontsize=12, loc="left")
    axes.text(0, 1, "\n\n".join(lines) or "none", va="top", fontsize=10, transform=axes.transAxes, color=NEUTRAL)
