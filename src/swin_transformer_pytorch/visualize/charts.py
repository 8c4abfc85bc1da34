"""Charts of figures, drawn with matplotlib: confusion matrices, training curves, precision and recall, bars."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..extras import require
from ..whole import replacing
from .pictures import NEUTRAL, StrPath, cut, make_room, tell_boxes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#6e7781", "#9a6700", "#1b7c83")
# Up to so many classes each cell has room for its number and each row for its name.
_MOST_NAMED_CLASSES = 30
_BARS_IN_A_COLUMN = 50
_NAMES = {
    "val": "validation",
    "top1": "top-1",
    "top5": "top-5",
    "map": "mAP",
    "f1": "F1",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "miou": "mIoU",
    "macc": "mAcc",
    "aacc": "pixel accuracy",
}
_ACCURACIES = ("top1", "top5", "accuracy", "_map", "_f1", "_ap", "_ap50", "_ap75", "_miou", "_macc", "_aacc")


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
    figure = new_figure(*((3.2 + 0.48 * size, 2.4 + 0.48 * size) if named else (12.5, 8.0)))
    axes = figure.add_subplot() if named else figure.subplots(1, 2, width_ratios=(2.2, 1))[0]
    colors = require("matplotlib.colors", extra="train")
    # The square root makes rare mistakes visible among hundreds of classes.
    norm = colors.PowerNorm(1.0 if named else 0.5, vmin=0, vmax=1)
    # A thousand classes have more cells than the picture pixels, and a plain average would hide all off the diagonal.
    extent = (-0.5, size - 0.5, size - 0.5, -0.5)
    image = axes.imshow(_shrunk(shares), cmap="Blues", norm=norm, interpolation="nearest", extent=extent)
    total = int(matrix.sum())
    accuracy = f"{np.trace(matrix) / total:.2%} of {total:,} images right" if total else "no images"
    axes.set_title(accuracy, fontsize=12, pad=10)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if named:
        ticks, labels = range(size), [cut(name, 24) for name in classes]
        axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, labels)
        _write_counts(axes, matrix, shares)
    else:
        _list_mistakes(figure.axes[1], matrix, classes)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("part of the true class")
    bar.ax.yaxis.set_major_formatter(require("matplotlib.ticker", extra="train").PercentFormatter(1.0))
    save_figure(figure, path)


def training_curve(history: Sequence[Mapping[str, float]], path: StrPath) -> None:
    """Saves losses and accuracies over a run.

    Args:
        history: a mapping for each point, with "epoch" (or "step"; else its place counts), and any values whose
            names hold "loss", or those of `_ACCURACIES` (in [0, 1]), such as "train_loss" and "val_top1".
            A point may lack some.
        path: where; its ending is the format.
    """
    axis = next((name for name in ("epoch", "step") if history and all(name in point for point in history)), None)
    names = list(dict.fromkeys(name for point in history for name in point))
    losses = [name for name in names if "loss" in name and name != "train_losses"]
    accuracies = [name for name in names if name.endswith(_ACCURACIES)]
    panels = [(group, title) for group, title in ((losses, "loss"), (accuracies, "accuracy")) if group]
    if not panels:
        raise ValueError(f"the history of {len(history)} points has no loss and no accuracy; it has: {names}")
    figure = new_figure(5.6 * len(panels), 4.0)
    for place, (group, title) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for name, colour in zip(group, _LINES * len(group), strict=False):
            points = [
                (point[axis] if axis else row + 1, point[name]) for row, point in enumerate(history) if name in point
            ]
            marker = "o" if len(points) <= 40 else None
            label = _readable(name).removeprefix("validation " if title == "accuracy" else "")
            axes.plot(*zip(*points, strict=True), label=label, color=colour, marker=marker, markersize=3.5)
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
            axes.set_title(f"best of {_readable(group[0])}: {best:.2%}")
    save_figure(figure, path)


def precision_recall_picture(curves: Mapping[str, Mapping[str, NDArray[np.float64]]], path: StrPath) -> None:
    """Saves precision against recall.

    Args:
        curves: a panel's title -> what a curve is called -> its precisions at evenly spaced recalls from 0 to 1.
        path: where; its ending is the format.
    """
    if not curves or not all(curves.values()):
        raise ValueError(f"the panels {list(curves)} have no curves to draw; give each at least one")
    figure = new_figure(5.4 * len(curves), 4.6)
    shades = require("matplotlib", extra="train").colormaps["viridis"]
    for place, (title, lines) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), place + 1)
        for index, (name, precision) in enumerate(lines.items()):
            colour = shades(0.9 * index / max(1, len(lines) - 1))
            axes.plot(np.linspace(0, 1, len(precision)), precision, label=name, color=colour, linewidth=1.8)
        axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower left", fontsize=9)
    save_figure(figure, path)


def class_scores_picture(scores: Mapping[str, float | None], path: StrPath, *, what: str, mean: float | None) -> None:
    """Saves a bar for each class, from the best to the worst, in columns of up to 50.

    Args:
        scores: class name -> a figure in [0, 1]; None for classes that have none, which come last.
        path: where; its ending is the format.
        what: the figure's name, such as "IoU".
        mean: of the classes, drawn as a line; None for no line.
    """
    if not scores:
        raise ValueError("there are no classes to draw; give a figure for at least one")
    order = sorted(scores.items(), key=lambda item: -1.0 if item[1] is None else item[1], reverse=True)
    columns = [order[start : start + _BARS_IN_A_COLUMN] for start in range(0, len(order), _BARS_IN_A_COLUMN)]
    rows = len(columns[0])
    figure = new_figure(6.2 if len(columns) == 1 else 4.4 * len(columns), 1.0 + 0.24 * rows)
    for place, column in enumerate(columns):
        axes = figure.add_subplot(1, len(columns), place + 1)
        values = [value or 0.0 for _, value in column]
        axes.barh(range(len(column)), values, color="#54aeff", height=0.74)
        for row, (_, value) in enumerate(column):
            text = "-" if value is None else f"{value:.1%}"
            # On white, so that the line of the mean does not go through the number.
            white = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            axes.text((value or 0.0) + 0.015, row, text, va="center", fontsize=8, color=NEUTRAL, bbox=white)
        axes.set_yticks(range(len(column)), [cut(name, 26) for name, _ in column], fontsize=8)
        axes.set_xlim(0, 1.12)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.xaxis.set_major_formatter(require("matplotlib.ticker", extra="train").PercentFormatter(1.0))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right"]].set_visible(False)
        if mean is not None:
            axes.axvline(mean, color="#bc4c00", linewidth=1.2, linestyle="--", zorder=0.9)
    figure.suptitle(
        what if mean is None else f"{what} of each class; the dashed line is their mean, {mean:.2%}", fontsize=11
    )
    save_figure(figure, path)


def new_figure(width: float, height: float) -> Figure:
    # Not pyplot: it keeps global state and asks for a display.
    return require("matplotlib.figure", extra="train").Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: StrPath) -> None:
    make_room(path)
    with warnings.catch_warnings(record=True, action="always") as caught, replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=120, facecolor="white", bbox_inches="tight", pad_inches=0.12)
    lacking = set()
    for warning in caught:
        # One for each letter, several times; the texts are what helps.
        if glyph := re.match(r"Glyph (\d+) .*missing from", str(warning.message)):
            lacking.add(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if lacking:
        text = require("matplotlib.text", extra="train").Text
        tell_boxes((one.get_text() for one in figure.findobj(text)), lacking)


def _readable(name: str) -> str:
    words = name.replace("/", " ").replace("_", " ")
    return " ".join(_NAMES.get(word, word) for word in words.split(" "))


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
            seen, truth = cut(classes[column], 30), cut(classes[row], 30)
            lines.append(f"{int(mistakes[row, column])} x {truth} ({row})\n      taken for {seen} ({column})")
    axes.axis("off")
    axes.set_title("commonest mistakes", fontsize=12, loc="left")
    axes.text(0, 1, "\n\n".join(lines) or "none", va="top", fontsize=10, transform=axes.transAxes, color=NEUTRAL)
