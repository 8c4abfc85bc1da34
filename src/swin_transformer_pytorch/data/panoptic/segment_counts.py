"""What there is to learn from images with segments: how many each has, counted before a run starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ..errors import DataError, ImageError
from ..held_out import Split
from .dataset import PanopticDataset
from .instance_maps import InstanceMaps

# Large data sets are not read twice; these are drawn from all of their maps. Those of a JSON cost nothing.
_LOOKED_AT = 200

_log = logging.getLogger(__name__)


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


def tell_queries(counts: Sequence[int], num_queries: int, total: int) -> None:
    """Logs how many of the images that were looked at, of `total`, have more segments than a model has queries."""
    if more := sum(count > num_queries for count in counts):
        _log.warning(
            "%s of %s training images%s have more segments, up to %d, than the model's %d queries: those beyond are "
            "not learnt, but where a crop leaves others out; the published large models have 200 queries",
            f"{more:,}",
            f"{len(counts):,}",
            f" (looked at, of {total:,})" * (len(counts) < total),
            max(counts),
            num_queries,
        )
