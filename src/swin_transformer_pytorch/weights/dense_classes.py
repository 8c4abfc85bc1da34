"""The classes of the public detectors and segmenters: COCO's 80 things and ADE20K's 150 classes, in head order.

Imports no torch. `data` reads the category ids and the colours from here too.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from ..colours import Colour

CLASS_SETS = ("coco", "ade20k")


@cache
def dense_class_names(dataset: str) -> tuple[str, ...]:
    """The class names in head order of "coco" (80) or "ade20k" (150).

    Raises:
        ValueError: another data set.
    """
    if dataset == "coco":
        return tuple(name for _, name in _coco())
    if dataset == "ade20k":
        return tuple(name for _, name in _ade20k())
    raise ValueError(f"no classes are known for dataset={dataset!r}; use one of {', '.join(CLASS_SETS)}")


@cache
def coco_category_ids() -> tuple[int, ...]:
    """For each of COCO's 80 classes, in head order, its id in the annotation files: 1 to 90, with gaps."""
    return tuple(category for category, _ in _coco())


@cache
def ade20k_palette() -> tuple[Colour, ...]:
    """For each of ADE20K's 150 classes, the (red, green, blue) that it is usually drawn in, 0 to 255."""
    return tuple(colour for colour, _ in _ade20k())


def class_palette(dataset: str) -> tuple[Colour, ...] | None:
    """The colours that belong to a data set's classes; None where it has none of its own."""
    return ade20k_palette() if dataset == "ade20k" else None


def _coco() -> list[tuple[int, str]]:
    """Lines of `category_id name`."""
    parts = [line.split(" ", 1) for line in _lines("coco_classes.txt")]
    return [(int(category), name) for category, name in parts]


def _ade20k() -> list[tuple[Colour, str]]:
    """Lines of `red green blue name`."""
    parts = [line.split(" ", 3) for line in _lines("ade20k_classes.txt")]
    return [((int(red), int(green), int(blue)), name) for red, green, blue, name in parts]


def _lines(name: str) -> list[str]:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines()
