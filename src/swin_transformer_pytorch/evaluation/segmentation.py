"""Intersection over union and accuracy of label maps, summed over a data set as ADE20K's benchmark does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels import IGNORED
from .report import EvaluationError, Report, told_apart


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationReport(Report):
    """How a segmenter did on a data set. All figures are in [0, 1].

    Attributes:
        miou: the mean of the classes' intersection over union, those left out that are neither there nor predicted.
        macc: the mean of the classes' accuracies, those left out that are not there.
        aacc: the part of the labelled pixels that are right.
        iou: class name -> intersection over union of all images' pixels together; None where there are none. Names
            that several classes share get their index: "screen [130]".
        accuracy: class name -> the part of its pixels that are right; None where it has none.
        pixels: class name -> its labelled pixels.
        classes: class names by index.
        num_images: how many were evaluated.
        skipped: for each image that could not be used, what is wrong with it.
    """

    miou: float
    macc: float
    aacc: float
    iou: dict[str, float | None]
    accuracy: dict[str, float | None]
    pixels: dict[str, int]
    classes: tuple[str, ...]
    num_images: int
    skipped: tuple[str, ...] = ()

    @property
    def num_scored(self) -> int:
        """How many classes `miou` is the mean of."""
        return sum(value is not None for value in self.iou.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, the figures by the names of the literature."""
        known = {"miou": "mIoU", "macc": "mAcc", "aacc": "aAcc", "iou": "IoU"}
        plain = {known.get(name, name): value for name, value in super().to_dict().items()}
        return {**plain, "mIoU_classes": self.num_scored}


class SegmentationEvaluator:
    """Counts pixels, image by image.

    Args:
        num_classes: classes of pixels.
        classes: their names; None names them "class 0", ...
        ignore_index: the label of pixels that count for nothing.

    Attributes:
        confusion_matrix: int64, (classes, classes): pixels of the row's class that were taken for the column's.
    """

    def __init__(self, num_classes: int, classes: Sequence[str] | None = None, ignore_index: int = IGNORED) -> None:
        self.classes = tuple(classes) if classes is not None else tuple(f"class {i}" for i in range(num_classes))
        if len(self.classes) != num_classes:
            raise EvaluationError(f"{len(self.classes)} names for num_classes={num_classes}; give one for each")
        self.ignore_index = ignore_index
        self.confusion_matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.num_images = 0

    def update(self, prediction: NDArray[np.integer[Any]], target: NDArray[np.integer[Any]]) -> None:
        """Counts one image's label maps, (height, width) each.

        Raises:
            EvaluationError: their sizes differ, or one has a label of no class.
        """
        if prediction.shape != target.shape:
            raise EvaluationError(
                f"the prediction has {prediction.shape} pixels and the labels {target.shape}; predict at the labels' "
                "own size"
            )
        counted = target != self.ignore_index
        num_classes = len(self.classes)
        pair = []
        for what, labels in (("labels", target[counted]), ("prediction", prediction[counted])):
            if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
                raise EvaluationError(
                    f"the {what} go from {labels.min()} to {labels.max()} and there are {num_classes} classes; give "
                    f"labels of 0 to {num_classes - 1}, and {self.ignore_index} for what is to be ignored"
                )
            pair.append(labels.astype(np.int64))
        cells = np.bincount(pair[0] * num_classes + pair[1], minlength=num_classes**2)
        self.confusion_matrix += cells.reshape(num_classes, num_classes)
        self.num_images += 1

    def report(self, *, skipped: Sequence[str] = ()) -> SegmentationReport:
        """The figures of what was counted; `skipped` is passed on.

        Raises:
            EvaluationError: nothing was counted.
        """
        labelled, predicted = self.confusion_matrix.sum(axis=1), self.confusion_matrix.sum(axis=0)
        if not labelled.any():
            reason = f"; the first problem: {skipped[0]}" if skipped else ""
            raise EvaluationError(f"no pixel of {self.num_images} images has a label to compare with{reason}")
        right = self.confusion_matrix.diagonal()
        union = labelled + predicted - right
        names = told_apart(self.classes)
        iou, accuracy = _ratios(names, right, union), _ratios(names, right, labelled)
        return SegmentationReport(
            miou=_mean(iou),
            macc=_mean(accuracy),
            aacc=float(right.sum() / labelled.sum()),
            iou=iou,
            accuracy=accuracy,
            pixels=dict(zip(names, labelled.tolist(), strict=True)),
            classes=self.classes,
            num_images=self.num_images,
            skipped=tuple(skipped),
        )


def _ratios(names: Sequence[str], parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> dict[str, float | None]:
    return {
        name: part / whole if whole else None
        for name, part, whole in zip(names, parts.tolist(), wholes.tolist(), strict=True)
    }


def _mean(values: dict[str, float | None]) -> float:
    known = [value for value in values.values() if value is not None]
    return sum(known) / len(known)
