"""What there is to learn from label maps: the pixels of each class, counted before a run starts."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...labels import IGNORED
from ..errors import DataError, some
from .dataset import SegmentationFolder

# Large data sets are not read twice; these are drawn from all of their label maps.
_LOOKED_AT = 200

_log = logging.getLogger(__name__)


def count_labels(
    data: SegmentationFolder, *, most: int = _LOOKED_AT, least_classes: int = 0
) -> tuple[NDArray[np.int64], int]:
    """Counts the pixels of `most` label maps, drawn at random though always the same.

    Those that cannot be used are passed over: they are named when they are read for training.

    Args:
        data: the label maps.
        most: how many to read.
        least_classes: while fewer classes than these have a pixel, more are read, if need be all.

    Returns:
        (256,) pixels of each label, at 255 those that are ignored; and how many label maps that was.
    """
    counts = np.zeros(IGNORED + 1, dtype=np.int64)
    read = 0
    for index in np.random.default_rng(0).permutation(len(data)).tolist():
        if read >= most and np.count_nonzero(counts[:IGNORED]) >= least_classes:
            break
        try:
            labels = data.read_labels(index)
        except DataError:
            continue
        counts += np.bincount(labels.ravel(), minlength=len(counts))
        read += 1
    return counts, read


def check_labels(data: SegmentationFolder, split: Literal["train", "val"]) -> None:
    """Refuses label maps that teach or measure nothing; of training's, says once what they hold, and what not.

    Raises:
        DataError: of all label maps, fewer than two classes have a pixel (validation: none has).
    """
    least = 2 if split == "train" else 1
    counts, read = count_labels(data, most=_LOOKED_AT if split == "train" else 0, least_classes=least)
    there = [name for index, name in enumerate(data.classes) if counts[index]]
    maps = f"{'all' if read == len(data) else f'{read:,} of'} {len(data):,} label maps"
    if not read:
        return  # each is named when it is used, and then there are too many
    if len(there) < least:
        what = "to tell apart" if split == "train" else "to measure"
        found = f"{there[0]!r} alone has pixels" if there else "no class has a pixel"
        raise DataError(
            f"{data.folder} has nothing {what}: in {maps}, {found}{_ignored(counts)}; {_cause(data, counts)}"
        )
    if split == "val":
        return
    if data.guess:
        _log.warning("%s", data.guess)
    order = np.argsort(-counts[: len(data.classes)], kind="stable").tolist()
    shares = some([f"{data.classes[index]} {counts[index]:,}" for index in order])
    _log.warning("%s: pixels of %s: %s%s", data.folder, maps, shares, _ignored(counts))
    missing = [name for index, name in enumerate(data.classes) if not counts[index]]
    if missing:
        _log.warning(
            "%s: classes without a pixel in %s: %d of %d (%s); %s",
            data.folder,
            maps,
            len(missing),
            len(data.classes),
            some(missing),
            _cause(data, counts) if read == len(data) else "the others may have some",
        )


def _cause(data: SegmentationFolder, counts: NDArray[np.int64]) -> str:
    """The likely reason why classes have no pixels, and what to do."""
    if data.reduce_zero_label and np.count_nonzero(counts[:IGNORED]) < 2:
        return "ADE20K's 0 is ignored: for label maps of your own use --data.kind folder, and name their classes"
    if counts[IGNORED] and not counts[1:IGNORED].any() and data.ignore_label == IGNORED:
        return "masks of 0 and 255? 255 is ignored: write class indices, such as 1 for an object rather than 255"
    return "nothing can be learned of a class that no label map has: label it, or leave it out of the classes"


def _ignored(counts: NDArray[np.int64]) -> str:
    return f"; {counts[IGNORED]:,} ({counts[IGNORED] / max(1, counts.sum()):.1%}) are ignored"
