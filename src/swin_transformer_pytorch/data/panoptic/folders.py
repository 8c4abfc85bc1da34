"""Where the images and segments of a COCO panoptic data set lie in a person's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import annotation_file
from ..errors import DataError, NothingFoundError
from ..held_out import PART_NAMES
from .annotations import read_cityscapes, read_panoptic

_CITYSCAPES = "gtFine/cityscapes_panoptic"


@dataclass(frozen=True, kw_only=True)
class PanopticFolder:
    """One part, such as training or validation, of a data set of segments.

    Attributes:
        images_folder: file names of "images" are relative to it.
        annotations_file: COCO's JSON.
        segments_folder: the PNGs of ids; file names of "annotations" are relative to it.
        read: makes COCO's dictionary, checked, of `annotations_file`.
        hold_out: whether it holds both parts, of which a share is set apart for validation.
    """

    images_folder: Path
    annotations_file: Path
    segments_folder: Path
    read: Callable[[Path], dict[str, Any]] = read_panoptic
    hold_out: bool = False


def find_panoptic(root: str | os.PathLike[str], split: str) -> PanopticFolder:
    """Looks for one part of a COCO panoptic data set in these layouts, the first that is there:

        root/annotations/panoptic_train*.json    COCO's own
        root/*panoptic_train*.json               ADE20K's, as Mask2Former's code makes it
        root/gtFine/cityscapes_panoptic_train.json   Cityscapes', as its own tool makes it; or *_trainId.json
        root/annotations/panoptic.json           one for all images, of which a share is set apart for validation
        root/panoptic.json                       likewise

    PNGs are in a folder of the JSON's name beside it or in root; images in root/train*/ or root/images/train*/, the
    name being what follows "panoptic_", or in root/images/; Cityscapes' in root/leftImg8bit/train/. The validation part
    is called "val", "valid" or "validation"; "test" is looked for likewise.

    Raises:
        DataError: there is none, or more than one; the message lists what was looked for, or what was found.
    """
    if split not in PART_NAMES:
        raise ValueError(f"split={split!r} is not known: use 'train', 'val' or 'test'")
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds a COCO panoptic data set")
    for pattern, whole in _patterns(split):
        if file := annotation_file(root, pattern, split, fix="the folders and the file"):
            return _part(root, file, split, whole)
    tried = ", ".join(pattern for pattern, _ in _patterns(split))
    raise NothingFoundError(
        f"{root} has no COCO panoptic annotations for {split!r}; looked for {tried} there; add them"
    )


def _patterns(split: str) -> Iterator[tuple[str, bool]]:
    """Patterns of annotation files, and whether such a file is of all images."""
    for name in PART_NAMES[split]:
        yield f"annotations/panoptic_{name}*.json", False
        yield f"*panoptic_{name}*.json", False
        yield f"{_CITYSCAPES}_{name}.json", False
        yield f"{_CITYSCAPES}_{name}_trainId.json", False
    if split != "test":
        yield "annotations/panoptic.json", True
        yield "panoptic.json", True


def _part(root: Path, file: Path, split: str, whole: bool) -> PanopticFolder:
    if file.relative_to(root).as_posix().startswith(_CITYSCAPES):
        return PanopticFolder(
            images_folder=root / "leftImg8bit" / split,
            annotations_file=file,
            segments_folder=file.with_suffix(""),
            read=read_cityscapes,
        )
    stem = file.stem.rpartition("panoptic_")[2]
    names = () if whole else (stem, f"images/{stem}", *(f"{a}{b}" for b in PART_NAMES[split] for a in ("", "images/")))
    return PanopticFolder(
        images_folder=_first(root, file, "images", (root / name for name in dict.fromkeys((*names, "images")))),
        annotations_file=file,
        segments_folder=_first(root, file, "PNGs", dict.fromkeys((file.with_suffix(""), root / file.stem))),
        hold_out=whole,
    )


def _first(root: Path, file: Path, what: str, folders: Iterator[Path] | dict[Path, None]) -> Path:
    looked = []
    for folder in folders:
        if folder.is_dir():
            return folder
        looked.append(f"{folder.relative_to(root)}/")
    raise DataError(f"{file} has no folder of {what}; looked for {', '.join(looked)} in {root}")
