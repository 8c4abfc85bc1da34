"""Where the images and label maps of a data set of segmentation lie in a person's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import DataError

Split = Literal["train", "val"]

CLASS_FILES = ("classes.txt", "classes.json")

_SPLITS: dict[Split, tuple[str, ...]] = {"train": ("train", "training"), "val": ("val", "valid", "validation")}
_LABELS = ("labels", "annotations", "masks")


@dataclass(frozen=True, kw_only=True)
class SegmentationLayout:
    """One part, training or validation, of a data set of segmentation.

    Attributes:
        images: the folder of its images.
        labels: the folder of its label maps.
        classes_file: names, and maybe colours, of the classes; None where there is no such file.
        ade20k: whether these are ADE20K's own folders, with its classes and its rule for labels.
        hold_out: whether the folders hold both parts, of which a share is set apart for validation.
    """

    images: Path
    labels: Path
    classes_file: Path | None
    ade20k: bool
    hold_out: bool


def find_segmentation(root: str | os.PathLike[str], split: Split) -> SegmentationLayout:
    """Looks for one part of a data set of segmentation in the layouts that are in use, the first that is there:

        root/images/train/     with root/labels/train/
        root/train/images/     with root/train/labels/
        root/train/            with root/labels/train/ (what `swin scenes` writes)
        root/images/           with root/labels/, both parts in one

    Instead of "labels" the folder may be called "annotations" or "masks", instead of "train" "training", and the
    validation part "val", "valid" or "validation". Where there is none, a share of the training images is set apart.
    ADE20K's own images/training/ with annotations/training/ is one of these; where the root has no classes file, it is
    taken for ADE20K. Classes are looked for in classes.txt and classes.json in the root.

    Raises:
        DataError: there is no such pair of folders; the message lists what was looked for.
    """
    if split not in _SPLITS:
        raise ValueError(f"split={split!r} is not known: use 'train' or 'val'")
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds images and label maps")
    classes_file = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    parts = {name: next(_present(root, _pairs(name)), None) for name in _SPLITS}
    found = parts[split]
    hold_out = parts["val"] is None
    if found is None and parts["train" if split == "val" else "val"] is None:
        found = next(_present(root, _flat()), None)
    elif found is None and split == "val":
        found = parts["train"]
    if found is None:
        tried = "\n  ".join(f"{images}/ with {labels}/" for images, labels in (*_pairs(split), *_flat()))
        raise DataError(f"{root} has no images with label maps for {split!r}; looked for\n  {tried}")
    images, labels = found
    ade20k = (images.split("/")[0], labels.split("/")[0]) == ("images", "annotations") and classes_file is None
    return SegmentationLayout(
        images=root / images,
        labels=root / labels,
        classes_file=classes_file,
        ade20k=ade20k and images.endswith(("/training", "/validation")),
        hold_out=hold_out,
    )


def _pairs(split: Split) -> list[tuple[str, str]]:
    """Folders of images and of labels for a part, relative to the root."""
    patterns = (
        ("images/{split}", "{labels}/{split}"),
        ("{split}/images", "{split}/{labels}"),
        ("{split}", "{labels}/{split}"),
    )
    return [
        (images.format(split=name), labels.format(split=name, labels=folder))
        for images, labels in patterns
        for name in _SPLITS[split]
        for folder in _LABELS
    ]


def _flat() -> list[tuple[str, str]]:
    return [("images", labels) for labels in _LABELS]


def _present(root: Path, pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((images, labels) for images, labels in pairs if (root / images).is_dir() and (root / labels).is_dir())
