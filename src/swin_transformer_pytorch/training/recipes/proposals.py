"""Which recipe fits a folder of images, for messages to people who named none or another. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...data.errors import DataError, NothingFoundError
from ...data.held_out import part_name
from ...data.panoptic.layouts import recognised
from ...data.segmentation.folders import find_segmentation, holds_label_maps
from ...models.config import Task

FINE_TUNING: dict[Task, str] = {
    "classification": "finetune",
    "detection": "finetune_detection",
    "segmentation": "finetune_segmentation",
    "panoptic": "finetune_mask2former_panoptic",
    "pretraining": "pretrain",
}
"""The recipe for a person's own folder of each task."""

_LABELS = ("labels", "annotations", "masks", "segmentationclass", "segmentationobject")
_NO_CLASSES = {
    *_LABELS,
    "instances",
    "images",
    "jpegimages",
    "imagesets",
    "stuffthingmaps",
}  # in layouts of the dense tasks


def fitting_recipes(root: str | os.PathLike[str]) -> list[str]:
    """Those of the dense tasks that a folder has annotations for; "finetune" where there are none."""
    return [FINE_TUNING[task] for task in dense_tasks(Path(root))] or [FINE_TUNING["classification"]]


def dense_tasks(root: Path) -> list[Task]:
    """The dense tasks that a folder has annotations for, as far as its files' names and beginnings tell."""
    from ...data.detection.layouts import find_parts  # it loads what reads images

    if not root.is_dir():
        return []
    looks: dict[Task, Callable[[Path], object]] = {
        "detection": find_parts,
        "segmentation": _find_label_maps,
        "panoptic": recognised,
    }
    return [task for task, look in looks.items() if _finds(look, root)]


def class_folders(root: Path) -> list[str]:
    """The folders that would be classes, but for those that layouts of other tasks and their parts have."""
    home = next((path for path in (root / "train", root) if path.is_dir() and _folders(path)), root)
    return [name for name in _folders(home) if name.lower() not in _NO_CLASSES and part_name(name) == "all"]


def has_label_folders(root: Path) -> bool:
    """Whether folders called so hold images and their labels or masks, in the root or that of the training part."""
    names = [{name.lower() for name in _folders(place)} for place in (root, root / "train") if place.is_dir()]
    return any("images" in one and not one.isdisjoint(_LABELS) for one in names)


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _find_label_maps(root: Path) -> None:
    labels = find_segmentation(root, "train").labels
    if not holds_label_maps(labels):
        raise NothingFoundError(f"{labels} holds no label PNGs")


def _finds(look: Callable[[Path], object], root: Path) -> bool:
    try:
        look(root)
    except NothingFoundError:
        return False
    except DataError:  # several, or a broken one
        return True
    return True
