"""Panoptic quality (arXiv 1801.00868), with the rules of COCO's panopticapi for crowds and void."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results import PanopticSegmentation
from .report import EvaluationError, Report, told_apart


@dataclass(frozen=True, kw_only=True)
class PanopticQuality:
    """The means over some classes of which there are segments, or were predicted; all in [0, 1].

    Attributes:
        pq: panoptic quality, of each class the product of the next two.
        sq: segmentation quality: the mean IoU of matched segments, 0 without one.
        rq: recognition quality: the F1 score of segments.
        num_classes: how many classes these are means of.
    """

    pq: float
    sq: float
    rq: float
    num_classes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return {"PQ": self.pq, "SQ": self.sq, "RQ": self.rq, "classes": self.num_classes}


@dataclass(frozen=True, kw_only=True, eq=False)
class PanopticReport(Report):
    """How a panoptic segmenter did on a data set.

    Attributes:
        all: over all classes.
        things: over those of things; None where none of them was there or predicted.
        stuff: over those of stuff, likewise.
        per_class: class name -> "PQ", "SQ" and "RQ", in [0, 1], and how many segments were matched ("TP"), predicted in
            vain ("FP") and missed ("FN"); None for classes neither there nor predicted. Names that several classes
            share get their index: "screen [130]".
        classes: class names by index.
        num_images: how many were evaluated.
        skipped: for each image that could not be used, what is wrong with it.
    """

    all: PanopticQuality
    things: PanopticQuality | None
    stuff: PanopticQuality | None
    per_class: dict[str, dict[str, float] | None]
    classes: tuple[str, ...]
    num_images: int
    skipped: tuple[str, ...] = ()


class PanopticEvaluator:
    """Matches segments, image by image.

    A predicted segment and one that is there match where they are of one class and their IoU is above 0.5; at most one
    can. The predicted segment's pixels where nothing is known, void, are left out of the union. Of unmatched predicted
    segments those count for nothing that lie by more than half on void and a crowd of their class. A crowd is neither
    matched nor missed; of several of a class in an image the last one given counts, as panopticapi has it.

    Args:
        classes: the class names by index.
        things: the indices of those of things; the others are stuff.

    Attributes:
        counts: int64, (classes, 3): matched, predicted in vain, and missed.
        iou: float64, (classes,): the sum over matched segments.
        num_images: how many were counted.
    """

    def __init__(self, classes: Sequence[str], things: Collection[int]) -> None:
        self.classes = tuple(classes)
        if strangers := sorted(label for label in things if not 0 <= label < len(self.classes)):
            raise EvaluationError(f"things={strangers} are none of the {len(self.classes)} classes; give their indices")
        self.things = frozenset(things)
        self.counts = np.zeros((len(self.classes), 3), dtype=np.int64)
        self.iou = np.zeros(len(self.classes), dtype=np.float64)
        self.num_images = 0

    def update(
        self,
        prediction: PanopticSegmentation,
        segment_ids: NDArray[np.integer[Any]],
        labels: Sequence[int] | NDArray[np.integer[Any]],
        crowd: Sequence[bool] | NDArray[np.bool_] | None = None,
    ) -> None:
        """Counts one image.

        Args:
            prediction: what was found.
            segment_ids: (height, width): which segment each pixel is of, from 1 in the order of `labels`; 0 for void.
            labels: the classes of the segments.
            crowd: for each, whether it is a group of things that are not told apart; None for no crowds.

        Raises:
            EvaluationError: sizes or classes do not go together, or there are other segments than labels.
        """
        truth = np.asarray(labels, dtype=np.int64)
        is_crowd = np.zeros(len(truth), dtype=np.bool_) if crowd is None else np.asarray(crowd, dtype=np.bool_)
        self._check(prediction, segment_ids, truth, is_crowd)
        found = np.array([segment.label for segment in prediction.segments], dtype=np.int64)
        overlaps = _overlaps(prediction, segment_ids, len(truth))
        of_truth, of_found = overlaps.sum(axis=1)[1:], overlaps.sum(axis=0)[1:]
        shared, on_void = overlaps[1:, 1:], overlaps[0, 1:]
        union = of_truth[:, None] + of_found - shared - on_void
        matched = (2 * shared > union) & (truth[:, None] == found) & ~is_crowd[:, None]
        rows, columns = matched.nonzero()
        np.add.at(self.iou, truth[rows], shared[rows, columns] / union[rows, columns])
        ignored = on_void.copy()
        last_crowd = {int(truth[place]): place for place in is_crowd.nonzero()[0]}
        for place, label in enumerate(found.tolist()):
            if label in last_crowd:
                ignored[place] += shared[last_crowd[label], place]
        in_vain = ~matched.any(axis=0) & (2 * ignored <= of_found)
        missed = ~matched.any(axis=1) & ~is_crowd
        for column, these in enumerate((truth[rows], found[in_vain], truth[missed])):
            self.counts[:, column] += np.bincount(these, minlength=len(self.classes))
        self.num_images += 1

    def merge(self, other: PanopticEvaluator) -> None:
        """Adds what another one has counted, such as one of another process, of other images.

        Raises:
            EvaluationError: it has other classes.
        """
        if (self.classes, self.things) != (other.classes, other.things):
            raise EvaluationError("evaluators of different classes cannot be merged; give both the model's")
        self.counts += other.counts
        self.iou += other.iou
        self.num_images += other.num_images

    def report(self, *, skipped: Sequence[str] = ()) -> PanopticReport:
        """The figures of what was counted; `skipped` is passed on.

        Raises:
            EvaluationError: nothing was counted.
        """
        rows = [
            _qualities(matched, in_vain, missed, iou)
            for (matched, in_vain, missed), iou in zip(self.counts.tolist(), self.iou.tolist(), strict=True)
        ]
        of_all = _mean(rows)
        if of_all is None:
            reason = f"; the first problem: {skipped[0]}" if skipped else ""
            raise EvaluationError(f"none of {self.num_images} images has a segment, known or predicted{reason}")
        return PanopticReport(
            all=of_all,
            things=_mean([row for label, row in enumerate(rows) if label in self.things]),
            stuff=_mean([row for label, row in enumerate(rows) if label not in self.things]),
            per_class=dict(zip(told_apart(self.classes), rows, strict=True)),
            classes=self.classes,
            num_images=self.num_images,
            skipped=tuple(skipped),
        )

    def _check(
        self,
        prediction: PanopticSegmentation,
        segment_ids: NDArray[np.integer[Any]],
        labels: NDArray[np.int64],
        crowd: NDArray[np.bool_],
    ) -> None:
        if prediction.image_size != segment_ids.shape:
            raise EvaluationError(
                f"the prediction has {prediction.image_size} pixels and the segments {segment_ids.shape}; predict at "
                "their own size"
            )
        if len(crowd) != len(labels):
            raise EvaluationError(f"{len(crowd)} crowd marks for {len(labels)} segments; give one for each")
        found = [segment.label for segment in prediction.segments]
        for what, these in (("segments", labels.tolist()), ("prediction", found)):
            if these and not (min(these) >= 0 and max(these) < len(self.classes)):
                raise EvaluationError(
                    f"labels of the {what} go from {min(these)} to {max(these)} and there are {len(self.classes)} "
                    f"classes; use 0 to {len(self.classes) - 1}"
                )
        there = np.unique(segment_ids)
        there = there[there != 0]
        if not np.array_equal(there, np.arange(1, len(labels) + 1)):
            raise EvaluationError(
                f"segment_ids has {len(there)} segments, {there[:5].tolist()} the first, and there are {len(labels)} "
                f"labels; number them from 1 to {len(labels)}, and leave out those without pixels"
            )


def _overlaps(prediction: PanopticSegmentation, segment_ids: NDArray[np.integer[Any]], count: int) -> NDArray[np.int64]:
    """(1 + segments there, 1 + segments found): the pixels that two share, void and none being the first."""
    ids = np.array([0, *(segment.id for segment in prediction.segments)])
    order = np.argsort(ids)
    places = order[np.searchsorted(ids[order], prediction.segment_ids)]
    cells = np.bincount((segment_ids.astype(np.int64) * len(ids) + places).ravel(), minlength=(count + 1) * len(ids))
    return cells.reshape(count + 1, len(ids))


def _qualities(matched: int, in_vain: int, missed: int, iou: float) -> dict[str, float] | None:
    if matched + in_vain + missed == 0:
        return None
    recognised = matched / (matched + in_vain / 2 + missed / 2)
    segmented = iou / matched if matched else 0.0
    quality = iou / (matched + in_vain / 2 + missed / 2)
    return {"PQ": quality, "SQ": segmented, "RQ": recognised, "TP": matched, "FP": in_vain, "FN": missed}


def _mean(rows: Sequence[dict[str, float] | None]) -> PanopticQuality | None:
    known = [row for row in rows if row is not None]
    if not known:
        return None
    pq, sq, rq = (sum(row[name] for row in known) / len(known) for name in ("PQ", "SQ", "RQ"))
    return PanopticQuality(pq=pq, sq=sq, rq=rq, num_classes=len(known))
