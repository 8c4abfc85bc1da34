"""What there is to learn from images with segments: how many each has, counted before a run starts."""

from __future__ import annotations

import numpy as np

from ..errors import DataError, ImageError
from ..held_out import Split
from .dataset import PanopticDataset
from .instance_maps import InstanceMaps

# Large data sets are not read twice; these are drawn from all of their maps. Those of a JSON cost nothing.
_LOOKED_AT = 200


def check_segments(data: PanopticDataset | InstanceMaps, split: Split) -> list[int]:
    """Refuses images that teach or measure nothing.

    Of label and instance PNGs some are read, drawn at random though always the same; more while none has a segment.
    Those that cannot be used are passed over: they are named when they are used.

    Returns:
        Segments, without crowds, of each image that was looked at.

    Raises:
        DataError: no image has one.
    """
    most = len(data) if isinstance(data, PanopticDataset) else _LOOKED_AT if split == "train" else 1
    counts: list[int] = []
    for index in np.random.default_rng(0).permutation(len(data)).tolist():
        if len(counts) >= most and any(counts):
            break
        try:
            counts.append(data.num_segments(index))
        except (DataError, ImageError):
            continue
    if counts and not any(counts):
        where = data.annotations_file if isinstance(data, PanopticDataset) else data.folders.labels
        what = "learn" if split == "train" else "measure"
        raise DataError(
            f"{where} has nothing to {what}: all that its {len(counts):,} images have are crowds and void; give one of "
            "them a segment of one of the classes"
        )
    return counts
