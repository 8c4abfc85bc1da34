"""A folder of images, whatever folders they lie in."""

from __future__ import annotations

import copy
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checks import plural, some
from ..classification.files import LabelledFiles
from ..errors import DataError, NothingFoundError
from ..held_out import Split, part_name, part_of
from ..images.decoding import Decoding
from ..images.files import INPUT_SUFFIXES, find_inputs, tell_arrays, walk_images
from ..images.path_table import PathCollector, PathTable

_log = logging.getLogger(__name__)


class UnlabelledFolder(LabelledFiles):
    """All images in a folder and the folders in it. Items are (PIL image, tensor of bands, an empty array: no label).

    Where `root` has a folder "train", its images are those to learn from, and those of "val" (also "valid" or
    "validation") those to measure on; what lies beside them is left out, which is logged by count. Without "val" a part
    is set apart.

    Args:
        root: the folder.
        split: "train", "val", "test" (`root/test`), or None for what there is to measure on: `root/val`, else all.
        val_fraction: the part that is set apart, at least one image. Which ones depends on `seed` and on the number of
            images.
        seed: of that choice.
        channels, max_pixels, white_level, decoding: see `LabelledFiles`.

    The files are kept as their paths' bytes and 8 bytes each, see `PathTable`, which forked processes share.

    Attributes:
        paths: the file of each item.
        held_out: whether training and validation images are parted by `val_fraction` alone.

    Raises:
        DataError: there are no images, or too few to set some apart, or "val" or "test" is there and "train" is not.
    """

    paths: PathTable
    classes: tuple[str, ...] = ()

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split | None = None,
        *,
        val_fraction: float = 0.01,
        seed: int = 0,
        channels: int | None = 3,
        max_pixels: int | None = None,
        white_level: int | None = None,
        decoding: Decoding = "exact",
    ) -> None:
        super().__init__(channels=channels, max_pixels=max_pixels, white_level=white_level, decoding=decoding)
        self.root = Path(root)
        self._options: dict[str, Any] = {
            "val_fraction": val_fraction,
            "seed": seed,
            "channels": channels,
            "max_pixels": max_pixels,
            "white_level": white_level,
            "decoding": decoding,
        }
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; give the one that holds the images")
        train, val, test = (_part(self.root, name) for name in ("train", "val", "test"))
        if train is None and split != "test" and (apart := val or test) is not None:
            raise DataError(
                f"{self.root} has a folder {apart.name!r} and none called 'train'; add it, or give the folder of the "
                "images to learn from alone"
            )
        self._home = train or self.root
        if split == "test":
            if test is None:
                raise NothingFoundError(f"{self.root} has no folder 'test'; add it, or measure another split")
            self._home = test
        elif split != "train" and val is not None:
            self._home = val
        self.held_out = split in ("train", "val") and val is None
        self._table = _find_files(self._home)
        if not self._table:
            raise DataError(f"{self._home} holds no images; give the folder that does, or one with a folder 'train'")
        if split == "train" and train is not None:
            self._tell_left_out()
        self._take(split)

    def part(self, split: Split) -> UnlabelledFolder:
        """Another part of the same folder. Where one part is held out of the other, both share what was found."""
        if not (self.held_out and split in ("train", "val")):
            return UnlabelledFolder(self.root, split, **self._options)
        other = copy.copy(self)
        other._take(split)
        return other

    def _take(self, split: Split | None) -> None:
        """Makes these the images of a part."""
        self.paths = self._table
        if self.held_out:
            assert split is not None, "it is one of two"
            fix = f"add some, or give {self.root} the folders 'train' and 'val'"
            of, share, seed = self._home, self._options["val_fraction"], self._options["seed"]
            places = part_of(len(self._table), split, of=of, val_fraction=share, seed=seed, fix=fix)
            self.paths = self._table.select(np.array(places, dtype=np.uint32))

    @property
    def labels(self) -> NDArray[np.uint8]:
        """None: uint8, (num_images, 0)."""
        return np.zeros((len(self), 0), dtype=np.uint8)

    def label(self, index: int) -> NDArray[np.uint8]:
        return np.zeros(0, dtype=np.uint8)

    def _tell_left_out(self) -> None:
        """Images beside "train" that no part has, of which a person may have wished to learn."""
        beside = [e.name for e in os.scandir(self.root) if e.is_dir() and not e.name.startswith(".")]
        strange = {name: find_inputs(self.root / name) for name in sorted(beside) if part_name(name) == "all"}
        if found := [f"{name} {len(paths):,}" for name, paths in strange.items() if paths]:
            text = "%s has a folder 'train', so that %s beside it are left out: %s"
            count = plural(sum(map(len, strange.values())), "image")
            _log.warning(text, self.root, count, some(found))


def _part(root: Path, name: str) -> Path | None:
    """The folder of a part, under one of its usual names, large letters or small."""
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    return next((root / one for one in folders if part_name(one) == name), None)


def _find_files(folder: Path) -> PathTable:
    """All images, or where there are none the arrays."""
    images, arrays = PathCollector(), PathCollector()
    for path in walk_images(folder, INPUT_SUFFIXES):
        (arrays if path.lower().endswith(".npy") else images).add(path)
    if not len(images):
        return arrays.table()
    tell_arrays(folder, arrays.table())
    return images.table()
