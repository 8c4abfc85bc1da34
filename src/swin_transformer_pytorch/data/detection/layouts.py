"""Which tool's layout a folder of images with objects has: one look, whoever asks. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import DataError, NothingFoundError
from ..held_out import Split
from .cvat import cvat_parts
from .folders import CocoFolder, DetectionLayout, Parts, coco_parts, find_coco
from .label_studio import label_studio_parts
from .labelme import labelme_parts
from .voc import voc_parts
from .yolo import yolo_parts

_FINDERS: dict[DetectionLayout, Callable[[Path], Parts]] = {
    "coco": coco_parts,
    "yolo": yolo_parts,
    "voc": voc_parts,
    "labelme": labelme_parts,
    "label_studio": label_studio_parts,
    "cvat": cvat_parts,
}


def find_parts(root: str | os.PathLike[str], layout: DetectionLayout | None = None) -> tuple[DetectionLayout, Parts]:
    """The layout of a data set of detection and its parts.

    Args:
        root: the folder.
        layout: which it has; None to look.

    Raises:
        DataError: it has none of the layouts, or could have several.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds images and their annotations")
    asked = tuple(_FINDERS) if layout is None else (layout,)
    found: dict[DetectionLayout, Parts] = {name: parts for name in asked if (parts := _FINDERS[name](root))}
    if len(found) > 1:
        raise DataError(
            f"{root} can be read in several ways: {', '.join(found)}; say which with --data.kind "
            f"{' or --data.kind '.join(found)}"
        )
    if not found:
        raise NothingFoundError(f"{root} has no annotations of objects that are known: looked for {', '.join(asked)}")
    return next(iter(found.items()))


def find_detection(root: str | os.PathLike[str], split: Split, layout: DetectionLayout | None = None) -> CocoFolder:
    """One part of a data set of detection. Where nothing is set apart for validation, `hold_out` of the others is true.

    Raises:
        DataError: see `find_parts`; or there are no images for training.
    """
    if layout == "coco" and not (Path(root).is_dir() and coco_parts(Path(root))):
        return find_coco(root, split)
    name, parts = find_parts(root, layout)
    if split in parts:
        return replace(parts[split], hold_out="val" not in parts and split != "test")
    whole = parts.get("train") or parts.get("all")
    if whole is None or "val" in parts or split == "test":
        if name == "coco":
            return find_coco(root, split)
        raise DataError(f"{root} ({name}) has parts for {', '.join(parts)} and none for {split!r}; add it")
    return replace(whole, hold_out=True)
