"""Where the images and annotations of a COCO data set lie in a person's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..documents import annotation_file, head
from ..errors import DataError, NothingFoundError
from ..held_out import PART_NAMES
from .annotations import read_annotations

DetectionLayout = Literal["coco", "yolo", "voc", "labelme", "label_studio", "cvat"]

_WHOLE = ("annotations/instances_default.json", "annotations.json", "_annotations.coco.json", "result.json")


@dataclass(frozen=True, kw_only=True)
class CocoFolder:
    """One part, such as training or validation, of a data set of detection.

    Attributes:
        images_folder: file names in the annotations are relative to it.
        annotations_file: COCO's JSON, or the file or folder that `read` makes COCO's dictionary of.
        stuff_folder: label maps of things and stuff, a PNG of each image's name (HTC learns from them), or None.
        read: makes COCO's dictionary, checked, of `annotations_file`.
        hold_out: whether it holds both parts, of which a share is set apart for validation.
    """

    images_folder: Path
    annotations_file: Path
    stuff_folder: Path | None = None
    read: Callable[[Path], dict[str, Any]] = read_annotations
    hold_out: bool = False


Parts = dict[str, CocoFolder]
"""The parts that a folder has: "train", "val" and "test", or "all" where nothing tells them apart."""


def find_coco(root: str | os.PathLike[str], split: str) -> CocoFolder:
    """Looks for one part of a COCO data set in the layouts that are in use, the first that is there:

        root/annotations/instances_train*.json    images in root/train*/ or root/images/train*/ (COCO's own)
        root/annotations/train*.json              the same
        root/train/_annotations.coco.json         images beside it (Roboflow)
        root/train/annotations.json               images beside it
        root/train.json                           images in root/train/, root/images/train/, root/images/ or root/

    The validation part is called "val", "valid" or "validation"; "test" is looked for likewise. Label maps of stuff are
    looked for in root/stuffthingmaps/, in a folder of the images folder's name.

    Raises:
        DataError: there is none, or more than one; the message lists what was looked for, or what was found.
    """
    if split not in PART_NAMES:
        raise ValueError(f"split={split!r} is not known: use 'train', 'val' or 'test'")
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds a COCO data set")
    found = _first(root, _layouts(split), split)
    if found is None:
        tried = ", ".join(pattern for pattern, _ in _layouts(split))
        raise NothingFoundError(
            f"{root} has no COCO annotations for {split!r}; looked for {tried} there; add them, or measure another part"
        )
    return found


def coco_parts(root: Path) -> Parts:
    """The parts of a COCO data set, in the layouts of `find_coco`; or, where there is neither of the first two, one
    file for all: annotations/instances_default.json (CVAT), annotations.json, _annotations.coco.json or result.json
    (Label Studio), or the one other JSON in annotations/, with images in images/ or beside it.
    """
    parts = {split: part for split in PART_NAMES if (part := _first(root, _layouts(split), split))}
    if not parts.keys() & {"train", "val"}:
        others = ((name, ("images/default", "images", ".")) for name in (*_WHOLE, "annotations/*.json"))
        whole = _first(root, others, "all images")
        parts |= {"all": whole} if whole is not None else {}
    return parts


def _first(root: Path, layouts: Iterator[tuple[str, tuple[str, ...]]], what: str) -> CocoFolder | None:
    for pattern, folders in layouts:
        # Files of all images have names that other tools use as well.
        is_one = _is_coco if what == "all images" else Path.is_file
        fix = "the images folder and the annotations file"
        if file := annotation_file(root, pattern, what, fix=fix, is_one=is_one):
            return _with_images(root, file, folders)
    return None


def _is_coco(file: Path) -> bool:
    if file.name.startswith("panoptic"):  # of segments
        return False
    text = head(file)
    return text.startswith("{") and '"shapes"' not in text


def _layouts(split: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Patterns of annotation files, and the folders of their images; "{stem}" is what follows "instances_"."""
    for name in PART_NAMES[split]:
        own = ("{stem}", "images/{stem}", name, f"images/{name}", "images")
        yield f"annotations/instances_{name}*.json", own
        yield f"annotations/{name}*.json", own
        yield f"{name}/_annotations.coco.json", (name,)
        yield f"{name}/annotations.json", (f"{name}/images", name)
        yield f"{name}.json", (name, f"images/{name}", "images", ".")


def _with_images(root: Path, annotations_file: Path, folders: tuple[str, ...]) -> CocoFolder:
    stem = annotations_file.stem.removeprefix("instances_")
    candidates = list(dict.fromkeys(folder.format(stem=stem) for folder in folders))
    for name in candidates:
        if (root / name).is_dir():
            stuff = root / "stuffthingmaps" / (root / name).name
            return CocoFolder(
                images_folder=root / name,
                annotations_file=annotations_file,
                stuff_folder=stuff if stuff.is_dir() else None,
            )
    looked = ", ".join(f"{name}/" for name in candidates)
    raise DataError(f"{annotations_file} has no folder of images; looked for {looked} in {root}")
