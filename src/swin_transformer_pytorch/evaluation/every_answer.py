"""Panoptic quality, COCO's average precision and mIoU of one model, of one look at each image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results import Detections, PanopticSegmentation, SegmentationMap
from ..results.panoptic import segment_boxes
from ..rle import encode_counts, placed_counts
from .coco import CocoEvaluator, DetectionReport
from .panoptic import PanopticEvaluator, PanopticReport
from .report import Report, told_apart
from .segmentation import SegmentationEvaluator, SegmentationReport

_VOID = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class EveryAnswerReport(Report):
    """How a panoptic model did on a data set, by each of its answers.

    Attributes:
        panoptic: by its segments.
        instance: by its things as objects that may overlap, held against the segments of things; None without things.
        semantic: by the class of each pixel, held against the classes of the segments.
        num_images: how many were evaluated.
        skipped: for each image that could not be used, what is wrong with it.
    """

    panoptic: PanopticReport
    instance: DetectionReport | None
    semantic: SegmentationReport
    num_images: int
    skipped: tuple[str, ...] = ()


class EveryAnswerEvaluator:
    """Holds a panoptic model's answers against the segments that are there, image by image.

    Crowds are ignored in precision, as COCO has it, and count as pixels of their class.

    Args:
        classes: the class names by index.
        things: the indices of those of things.

    Attributes:
        panoptic: what counts segments.
        semantic: what counts pixels.
    """

    def __init__(self, classes: Sequence[str], things: Collection[int]) -> None:
        self.panoptic = PanopticEvaluator(classes, things)
        self.semantic = SegmentationEvaluator(len(classes), classes, ignore_index=_VOID)
        self._names = told_apart(classes)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._objects: list[Detections] = []

    @property
    def things(self) -> list[int]:
        """The indices of the classes of things, rising."""
        return sorted(self.panoptic.things)

    def update(
        self,
        panoptic: PanopticSegmentation,
        instance: Detections,
        semantic: SegmentationMap,
        *,
        image_id: int | str,
        segment_ids: NDArray[np.integer[Any]],
        labels: Sequence[int] | NDArray[np.integer[Any]],
        crowd: Sequence[bool] | NDArray[np.bool_],
    ) -> None:
        """Counts one image.

        Args:
            panoptic: its segments.
            instance: its things.
            semantic: its classes.
            image_id: the image's number in the data set, or the text that stands for it.
            segment_ids, labels, crowd: what is there, see `PanopticEvaluator.update`.

        Raises:
            EvaluationError: sizes or classes do not go together.
        """
        self.panoptic.update(panoptic, segment_ids, labels, crowd)
        classes = np.array([_VOID, *labels], dtype=np.int64)
        self.semantic.update(semantic.labels, classes[segment_ids])
        height, width = segment_ids.shape
        number = len(self._images) + 1
        name = {"file_name": image_id} if isinstance(image_id, str) else {}
        self._images.append(
            {"id": number if isinstance(image_id, str) else image_id, "height": height, "width": width, **name}
        )
        self._objects.append(instance)
        things = [place for place, label in enumerate(labels, start=1) if int(label) in self.panoptic.things]
        for place, box in zip(things, segment_boxes(segment_ids, things), strict=True):
            left, top, columns, rows = box
            part = segment_ids[top : top + rows, left : left + columns] == place
            counts = encode_counts(placed_counts(part, (top, left), (height, width)))
            self._annotations.append(
                {
                    "image_id": self._images[-1]["id"],
                    "category_id": int(labels[place - 1]) + 1,
                    "bbox": box,
                    "area": int(np.count_nonzero(part)),
                    "iscrowd": int(crowd[place - 1]),
                    "segmentation": {"size": [height, width], "counts": counts.decode("ascii")},
                }
            )

    def objects(self) -> CocoEvaluator | None:
        """What holds the things against those that are there, all images passed to it; None without classes of things.

        Categories are counted from 1 in the order of the classes. Images whose ids are texts are numbered from 1.
        """
        if not self.things:
            return None
        evaluator = CocoEvaluator(
            {
                "images": self._images,
                "annotations": self._annotations,
                "categories": [{"id": label + 1, "name": self._names[label]} for label in self.things],
            },
            classes=self._names,
        )
        for image, objects in zip(self._images, self._objects, strict=True):
            evaluator.update(image["id"], objects)
        return evaluator

    def report(self, *, objects: CocoEvaluator | None = None, skipped: Sequence[str] = ()) -> EveryAnswerReport:
        """The figures of what was counted.

        Args:
            objects: what `objects` gave, where it is there already.
            skipped: is passed on.

        Raises:
            EvaluationError: nothing was counted.
        """
        panoptic = self.panoptic.report(skipped=skipped)
        found = objects if objects is not None else self.objects()
        return EveryAnswerReport(
            panoptic=panoptic,
            instance=None if found is None else found.report(),
            semantic=self.semantic.report(),
            num_images=panoptic.num_images,
            skipped=tuple(skipped),
        )
