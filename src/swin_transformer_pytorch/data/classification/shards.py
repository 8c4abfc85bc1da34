"""Images packed into shards, with one class each or none."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..choice import ClassChoice, choose_classes
from ..errors import DataError, some
from ..held_out import Split
from ..images.decoding import Decoding
from ..shards.ahead import Ahead
from ..shards.contents import ShardContents, ShardSet
from ..shards.index import NO_LABEL
from ..shards.options import ShardOptions
from ..shards.order import WindowedOrder
from .files import LabelledFiles
from .folder import class_indices

_log = logging.getLogger(__name__)


class ShardImages(LabelledFiles):
    """Images of shards, see `swin shards`. Items are (PIL image, or tensor of bands, class index; -1 without classes).

    Args:
        root: the folder or address with `shards.json`.
        split: "train", "val", "test", or None for what there is to evaluate: the validation part, else all images.
        val_fraction: the share of all images that is set apart where there is no part for validation.
        seed: of that choice.
        channels, max_pixels, white_level, decoding: see `LabelledFiles`.
        classes: a model's class names, to evaluate it; those of the shards are looked up among them as the folders of
            `ImageFolder` are. None: the shards' own.
        choice: which of the classes are taken, and which become one, see `choose_classes`; the others' images are left
            out, which is logged by count.
        options: how shards are read.

    Attributes:
        classes: class names by index; none where the images have no labels.
        paths: the images' files, as their bytes.
        labels: int64 or int32, (num_images,): the class index of each, -1 for none.
        held_out: whether training and validation images are parted by `val_fraction` alone.

    Raises:
        NothingFoundError: there are no shards, or none of the part.
        DataError: they are damaged or cannot be fetched, or have other classes.
    """

    paths: ShardContents

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split | None = None,
        *,
        val_fraction: float = 0.2,
        seed: int = 0,
        channels: int | None = 3,
        max_pixels: int | None = None,
        white_level: int | None = None,
        decoding: Decoding = "exact",
        classes: Sequence[str] | None = None,
        choice: ClassChoice | None = None,
        options: ShardOptions | None = None,
    ) -> None:
        super().__init__(channels=channels, max_pixels=max_pixels, white_level=white_level, decoding=decoding)
        shards = ShardSet(root, options)
        self.root, self.options = shards.root, shards.options
        self.parts, self.held_out = shards.parts, "val" not in shards.parts and split != "test"
        self.paths = shards.open_part(split, val_fraction=val_fraction, seed=seed)
        own = shards.classes
        if not own and (classes is not None or choice is not None):
            raise DataError(f"{root} has images without labels; pack them with their class folders (`swin shards`)")
        names, places = choose_classes(own, choice, of=root)
        self.classes = tuple(classes) if classes is not None else names
        by_number = choice is None and classes is not None
        index_of = class_indices(names, root, "classes", self.classes, "the model's classes", by_number=by_number)
        self._index_of = np.array([NO_LABEL if at is None else index_of[names[at]] for at in places], dtype=np.int32)
        if left := [index for index, at in enumerate(places) if at is None]:
            counts = np.bincount(self.paths.labels, minlength=len(own))
            text = "%s: images left out, as data.classes has not their class: %s"
            _log.warning(text, root, some([f"{own[index]} {counts[index]:,}" for index in left]))
            self.paths = self.paths.choose(~np.isin(self.paths.labels, left))
        self._as_is = np.array_equal(self._index_of, np.arange(len(own)))

    @property
    def labels(self) -> NDArray[Any]:
        labels = self.paths.labels
        return labels if self._as_is else self._index_of[labels]

    @property
    def checksum(self) -> int:
        """Of the images' content, wherever they lie."""
        return self.paths.checksum

    def order(self, global_batch: int) -> WindowedOrder:
        """In which training sees the images, in steps of so many on all devices.

        Raises:
            ShardError: the cache has no room for two windows.
        """
        window, lanes = self.options.window, self.options.lanes
        if self.ahead is not None:
            self.ahead.require_windows(window)
        return WindowedOrder(self.paths.shard_counts, window=window, lanes=lanes, global_batch=global_batch)

    @property
    def ahead(self) -> Ahead | None:
        """What fetches shards of a store; None for those on this machine."""
        return self.paths.ahead

    def source(self, index: int) -> bytes:
        return self.paths.read(index)

    def label(self, index: int) -> int:
        label = int(self.paths.label(index))
        return label if self._as_is else int(self._index_of[label])
