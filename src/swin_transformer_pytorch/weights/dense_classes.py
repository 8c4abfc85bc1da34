"""The classes of the public dense models, in head order: COCO's, ADE20K's, Cityscapes' and Mapillary Vistas'.

Imports no torch. `data` reads the category ids and the colours from here too.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from ..colours import Colour

CLASS_SETS = (
    *("coco", "ade20k", "coco_panoptic", "ade20k_instance", "cityscapes", "cityscapes_instance"),
    "mapillary_vistas",
)
_PANOPTIC = (
    "coco_panoptic",
    "cityscapes",
    "mapillary_vistas",
)  # a file of lines `thing|stuff red green blue name` each
_INSTANCE = {"ade20k_instance": "ade20k", "cityscapes_instance": "cityscapes"}  # the things of another set
# The indices of ADE20K's things.
_ADE20K_THINGS = """
7 8 10 12 14 15 18 19 20 22 23 24 27 30 31 32 33 35 36 37 38 39 41 42 43 44 45 47 49 50 53 55 56 57 58 62 64 65 66 67 69
70 71 72 73 74 75 76 78 80 81 82 83 85 86 87 88 89 90 92 93 95 97 98 102 103 104 107 108 110 111 112 115 116 118 119 120
121 123 124 125 126 127 129 130 132 133 134 135 136 137 138 139 142 143 144 146 147 148 149
"""


@cache
def dense_class_names(dataset: str) -> tuple[str, ...]:
    """The class names in head order of "coco" (80), "ade20k" (150), or another of `CLASS_SETS`.

    "coco_panoptic" (133), "cityscapes" (19) and "mapillary_vistas" (65) have things and stuff; "ade20k_instance" (100)
    and "cityscapes_instance" (8) are the things alone.

    Raises:
        ValueError: another data set.
    """
    if dataset == "coco":
        return tuple(name for _, name in _coco())
    if dataset == "ade20k":
        return tuple(name for _, name in _ade20k())
    if dataset in _INSTANCE:
        names = dense_class_names(_INSTANCE[dataset])
        return tuple(names[index] for index in thing_classes(_INSTANCE[dataset]))
    if dataset in _PANOPTIC:
        return tuple(name for _, _, name in _panoptic(dataset))
    raise ValueError(f"no classes are known for dataset={dataset!r}; use one of {', '.join(CLASS_SETS)}")


@cache
def thing_classes(dataset: str) -> tuple[int, ...]:
    """The indices of those of a data set's classes that are things, whose objects are counted; the others are stuff.

    Raises:
        ValueError: another data set than `CLASS_SETS`.
    """
    if dataset == "ade20k":
        return tuple(map(int, _ADE20K_THINGS.split()))
    if dataset in _PANOPTIC:
        return tuple(index for index, (is_thing, _, _) in enumerate(_panoptic(dataset)) if is_thing)
    return tuple(range(len(dense_class_names(dataset))))


@cache
def coco_category_ids() -> tuple[int, ...]:
    """For each of COCO's 80 classes, in head order, its id in the annotation files: 1 to 90, with gaps."""
    return tuple(category for category, _ in _coco())


@cache
def ade20k_palette() -> tuple[Colour, ...]:
    """For each of ADE20K's 150 classes, the (red, green, blue) that it is usually drawn in, 0 to 255."""
    return tuple(colour for colour, _ in _ade20k())


def class_palette(dataset: str) -> tuple[Colour, ...] | None:
    """The colours that belong to a data set's classes; None where it has none of its own, as those of things alone."""
    if dataset in _PANOPTIC:
        return tuple(colour for _, colour, _ in _panoptic(dataset))
    return ade20k_palette() if dataset == "ade20k" else None


def _coco() -> list[tuple[int, str]]:
    """Lines of `category_id name`."""
    parts = [line.split(" ", 1) for line in _lines("coco_classes.txt")]
    return [(int(category), name) for category, name in parts]


def _ade20k() -> list[tuple[Colour, str]]:
    """Lines of `red green blue name`."""
    parts = [line.split(" ", 3) for line in _lines("ade20k_classes.txt")]
    return [((int(red), int(green), int(blue)), name) for red, green, blue, name in parts]


@cache
def _panoptic(dataset: str) -> tuple[tuple[bool, Colour, str], ...]:
    """Whether it is a thing, its colour and its name."""
    parts = [line.split(" ", 4) for line in _lines(f"{dataset}_classes.txt")]
    return tuple((kind == "thing", (int(red), int(green), int(blue)), name) for kind, red, green, blue, name in parts)


def _lines(name: str) -> list[str]:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines()
