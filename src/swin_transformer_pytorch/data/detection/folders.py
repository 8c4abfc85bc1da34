"""Where the images and annotations of a COCO data set lie in a person's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import DataError

_NAMES = {"train": ("train",), "val": ("val", "valid", "validation")}


@dataclass(frozen=True, kw_only=True)
class CocoFolder:
    """One part, training or validation, of a COCO data set.

    Attributes:
        images_folder: file names in the annotations are relative to it.
        annotations_file: COCO's JSON.
        stuff_folder: label maps of things and stuff, a PNG of each image's name (HTC learns from them), or None.
    """

    images_folder: Path
    annotations_file: Path
    stuff_folder: Path | None = None


def find_coco(root: str | os.PathLike[str], split: Literal["train", "val"]) -> CocoFolder:
    """Looks for one part of a COCO data set in the layouts that are in use, the first that is there:

        root/annotations/instances_train*.json    images in root/train*/ or root/images/train*/ (COCO's own)
        root/annotations/train*.json              the same
        root/train/_annotations.coco.json         images beside it (Roboflow)
        root/train/annotations.json               images beside it
        root/train.json                           images in root/train/, root/images/train/, root/images/ or root/

    The validation part is called "val", "valid" or "validation". Label maps of stuff are looked for in
    root/stuffthingmaps/, in a folder of the images folder's name.

    Raises:
        DataError: there is none, or more than one; the message lists what was looked for, or what was found.
    """
    if split not in _NAMES:
        raise ValueError(f"split={split!r} is not known: use 'train' or 'val'")
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds a COCO data set")
    tried: list[str] = []
    for pattern, folders in _layouts(split):
        tried.append(pattern)
        # Sorted and without hidden files, such as those of another system's file browser.
        found = sorted(path for path in root.glob(pattern) if path.is_file() and not path.name.startswith("._"))
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(root)) for path in found)
            raise DataError(
                f"{root} has several annotation files for {split!r}: {names}; keep one of them there, or give the "
                "images folder and the annotations file by name"
            )
        if found:
            return _with_images(root, found[0], folders)
    raise DataError(f"{root} has no COCO annotations for {split!r}; looked for {', '.join(tried)} there")


def _layouts(split: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Patterns of annotation files, and the folders of their images; "{stem}" is what follows "instances_"."""
    for name in _NAMES[split]:
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
