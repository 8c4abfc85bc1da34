"""Images with any number of classes each, which a file names."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...names import by_name
from ..choice import ClassChoice, choose_classes
from ..errors import DataError, NothingFoundError, some
from ..held_out import PART_NAMES, Split, part_of
from ..images.decoding import Decoding
from .files import LabelledFiles
from .label_files import LabelTable, find_label_files

_PARTS = {name for names in PART_NAMES.values() for name in names}

_log = logging.getLogger(__name__)


class MultiLabelImages(LabelledFiles):
    """Images with labels in a file, see `find_label_files` and `LabelTable`.

    Items are (PIL image, or tensor of bands, 0 or 1 a class). Images without a label are kept: all of their classes are
    0. How many they are is logged, and what was left out.

    Args:
        root: the folder; the images lie anywhere in it, those of Roboflow's parts in their folder.
        split: "train", "val", "test", or None for what there is to evaluate: the validation part, else all images.
        labels: the file of labels in it, where it is called otherwise.
        val_fraction: the share that is set apart where there is no validation part; which, depends on `seed`.
        seed: of that choice.
        channels, max_pixels, white_level, decoding: see `LabelledFiles`.
        classes: a model's class names, to evaluate it; the file may lack some. None: the file's own.
        choice: which classes are taken, and which become one, that an image has if it has any of them; see
            `choose_classes`.

    Attributes:
        classes: class names by index.
        paths: the file of each item.
        labels: uint8, (num_images, classes): 1 where the image has the class.
        part_names: the parts that there are, "train", "val" and "test", or "all" where nothing tells them apart.
        held_out: whether training and validation images are parted by `val_fraction` alone.
        layout: what was recognised, in words.

    Raises:
        DataError: there is no such file or part, it is broken, or its classes are not the model's.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split | None = None,
        *,
        labels: str | None = None,
        val_fraction: float = 0.2,
        seed: int = 0,
        channels: int | None = 3,
        max_pixels: int | None = None,
        white_level: int | None = None,
        decoding: Decoding = "exact",
        classes: Sequence[str] | None = None,
        choice: ClassChoice | None = None,
    ) -> None:
        super().__init__(channels=channels, max_pixels=max_pixels, white_level=white_level, decoding=decoding)
        root, part = Path(root), split or "val"
        if not root.is_dir():
            raise DataError(f"{root} is not a folder; give the one that holds images and a file of their labels")
        if not (files := find_label_files(root, labels)):
            looked = "_classes.csv in train/ (Roboflow), labels.csv, labels.json and Label Studio's choices"
            raise NothingFoundError(f"{root} has no file of labels: looked for {looked}; name another by data.labels")
        tables = {of: LabelTable(path, root if of == "all" else path.parent) for of, path in files.items()}
        parts: dict[str, list[tuple[Path, frozenset[str]]]] = defaultdict(list)
        for of, table in tables.items():
            for path, (has, own) in sorted(table.rows.items()):
                parts[own if of == "all" else of].append((path, has))
            if split in (None, of) or (of, split) == ("all", "train"):
                table.say_notes()
        self.part_names, self.held_out = tuple(parts), part != "test" and "val" not in parts
        rows = parts.get("train", parts.get("all")) if self.held_out else parts.get(part)
        if not rows:
            raise NothingFoundError(f"{root} has images for {', '.join(parts)} and none for {part!r}; add some")
        if self.held_out and split in ("train", "val"):
            fix = "change it, or set images apart for 'val'"
            chosen = part_of(len(rows), split, of=root, val_fraction=val_fraction, seed=seed, fix=fix)
            rows = [rows[place] for place in chosen]

        first = next(iter(tables.values()))
        for table in tables.values():
            if odd := sorted({*table.classes} ^ {*first.classes}):
                raise DataError(
                    f"{table.source} and {first.source} have other classes: {some(odd)}; make them the same"
                )
        self.layout = first.layout
        names, places = choose_classes(first.classes, choice, of=root, strict=classes is None)
        self.classes = tuple(classes) if classes is not None else names
        index_of = by_name({name: index for index, name in enumerate(self.classes)})
        if strangers := [name for name in names if index_of(name) is None]:
            raise DataError(f"{root} has classes that the model has not: {some(strangers)}; its: {some(self.classes)}")
        columns = {
            old: index
            for old, place in zip(first.classes, places, strict=True)
            if place is not None and (index := index_of(names[place])) is not None
        }
        self.paths = [path for path, _ in rows]
        self.labels = np.zeros((len(rows), len(self.classes)), dtype=np.uint8)
        for row, (_, has) in zip(self.labels, rows, strict=True):
            row[[columns[name] for name in has if name in columns]] = 1
        if empty := int((~self.labels.any(axis=1)).sum()):
            whose = f"{split} " * (split is not None)
            _log.warning(
                "%s: %s of %s %simages have no label and are kept", root, f"{empty:,}", f"{len(rows):,}", whose
            )

    def label(self, index: int) -> NDArray[np.uint8]:
        row: NDArray[np.uint8] = self.labels[index]
        return row


def has_label_file(root: str | os.PathLike[str], *, say: bool = True) -> bool:
    """Whether a folder's images have their labels in a file; unless not to `say`, what is made of one is logged.

    Where folders could be classes they are, as there may be such a file beside them.
    """
    root = Path(root)
    places = (root, *(root / name for name in _PARTS))
    folders = {path.name.lower() for place in places for path in place.glob("[!.]*/")}
    if folders <= {"images", *_PARTS}:
        files = find_label_files(root) if root.is_dir() else {}
        if say and files:
            path = next(iter(files.values()))
            _log.warning("%s names the images' labels, any number each: data.kind is multi_label", path)
        return bool(files)
    for path in (root / "labels.csv", root / "labels.json"):
        if path.is_file():
            _log.warning("%s is not read, as there are class folders: --data.kind multi_label reads it", path)
    return False
