"""What `swin data` finds out of shards."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..checks import plural
from ..data.classification.shards import ShardImages
from ..data.errors import DataError
from ..data.images.band_headers import find_bands
from ..data.shards.contents import ShardSet
from ..data.shards.options import ShardOptions
from ..models.config import Task
from .data_look import Look, Part

_LOOKED_AT = 20  # images of a part whose headers tell of all
_COMPARED = 1000  # pairs of images of one size and checksum


def look_at_shards(root: str, data: argparse.Namespace, task: Task | None) -> Look:
    """What shards hold, nothing of them read but the index and a few images' headers."""
    if task not in (None, "classification"):
        raise DataError(f"{root} holds shards, which are for classification; leave out --task {task}")
    options = ShardOptions(cache=data.shards.cache, cache_gb=data.shards.cache_gb)
    shared: dict[str, Any] = {"val_fraction": 0, "channels": None, "choice": data.classes, "options": options}
    names = ShardSet(root, options).parts
    parts = {
        name: Part(samples=ShardImages(root, cast(Literal["train", "val", "test"], name), **shared)) for name in names
    }
    if names == ("train",):
        parts = {"all": parts["train"]}
    bands: Counter[tuple[int, str]] = Counter()
    for part in parts.values():
        bands.update(found for content in part.samples.paths[:_LOOKED_AT] if (found := find_bands(content)) is not None)
    layout = plural(sum(len(part.samples.paths.members.shards) for part in parts.values()), "shard")
    layout += "" if next(iter(parts.values())).samples.classes else " of images without labels"
    layout += "".join(f", images of {channels} channels {how}" for channels, how in sorted(bands))
    return Look(task="classification", layout=layout, unit="images", parts=parts)


def same_in_shards(sets: Sequence[tuple[ShardImages, NDArray[Any]]]) -> list[tuple[Path, Path]]:
    """Pairs of images in different groups that have the same content; each set comes with the group of each image."""
    prints = np.concatenate([samples.paths.fingerprints() for samples, _ in sets])
    groups = np.concatenate([group for _, group in sets])
    starts = np.cumsum([0, *(len(samples) for samples, _ in sets)])
    order = np.argsort(prints, kind="stable")
    same = np.concatenate([[False], prints[order][1:] == prints[order][:-1]])
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))  # of those that are alike
    differs = np.flatnonzero(groups[order] != groups[order[first]])
    pairs = []
    for number, place in enumerate(differs.tolist()):
        both = []
        for index in (int(order[first[place]]), int(order[place])):
            which = int(np.searchsorted(starts, index, side="right")) - 1
            both.append(sets[which][0].paths[index - int(starts[which])])
        if number >= _COMPARED or both[0] == both[1]:
            pairs.append((Path(both[0].filename), Path(both[1].filename)))
    return pairs
