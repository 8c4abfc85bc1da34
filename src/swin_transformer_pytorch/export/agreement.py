"""How far an 8-bit file answers as the float file that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..data.images.unusable import Samples, Unusable, item_or_problem
from ..data.samples import DetectionSample, SegmentationSample
from ..evaluation.classification import ClassificationCounts
from ..evaluation.coco import CocoEvaluator
from ..evaluation.multi_label import MultiLabelCounts
from ..evaluation.report import Report
from ..evaluation.segmentation import SegmentationEvaluator
from ..ops.regions.boxes import pairwise_iou
from ..predict import Predictor
from ..results import Detections, SegmentationMap
from .graph import ExportError

SCORE, IOU = 0.3, 0.5
"""Objects of at least that score are compared; two of one class that overlap so far are the same."""


@dataclass(frozen=True, kw_only=True)
class Agreement(Report):
    """How an 8-bit file did beside its float file, on images that it was not calibrated on.

    Attributes:
        num_images: how many.
        shares: of classifiers "top-1", the part of the images with the same likeliest class, and with several labels an
            image "labels", the part of these, there or not, that are the same; of segmenters "pixels", the part of
            them with the same class; of detectors "found again", the part of the float file's objects that the 8-bit
            file has as well, and "not new", the part of the 8-bit file's that the float file has.
        logits: of classifiers the "mean" and "largest" difference of their logits, over the largest logit.
        measured: by the images' labels, where there are any: "top-1", "mAP", "mIoU", "box AP" and "mask AP", each of
            the float file and of the 8-bit one, in [0, 1]; None where it cannot be measured.
    """

    num_images: int
    shares: dict[str, float]
    logits: dict[str, float]
    measured: dict[str, tuple[float | None, float | None]]


def agreement(
    float_model: nn.Module, int8_model: nn.Module, samples: Samples[Any], places: Iterable[int], unusable: Unusable
) -> Agreement:
    """Compares two models of one task.

    Args:
        float_model: the one that is right.
        int8_model: the other.
        samples: images, see `picture_and_truth`.
        places: which of them.
        unusable: counts those that cannot be used.
    """
    predictors = [Predictor(model, device="cpu") for model in (float_model, int8_model)]
    model: Any = predictors[0].model
    kind = _MultiLabel if getattr(model, "multi_label", False) else _COMPARISONS[model.task]
    comparison: _Comparison = kind(model, samples)
    num_images = 0
    for image, truth in usable_pictures(samples, places, predictors[0], unusable):
        comparison.update([comparison.answer(predictor, image) for predictor in predictors], truth)
        num_images += 1
    if not num_images:
        raise ExportError("none of the images that the two files should be compared on can be read: give others")
    return comparison.result(num_images)


def picture_and_truth(sample: Any) -> tuple[Any, Any]:
    """The image of an item of a data set, or the item if it is one, and what is known of it, or None."""
    if isinstance(sample, tuple):
        return sample[0], sample[1]
    if isinstance(sample, SegmentationSample):
        return sample.image, sample.labels
    if isinstance(sample, DetectionSample):
        return sample.image, sample.image_id
    return sample, None


def usable_pictures(
    samples: Samples[Any], places: Iterable[int], predictor: Predictor, unusable: Unusable
) -> Iterable[tuple[Any, Any]]:
    """Each image as `predict_prepared` takes it, and what is known of it; those that cannot be used are counted."""

    def prepared(place: int) -> tuple[Any, Any]:
        image, truth = picture_and_truth(samples[place])
        return predictor.prepare(image), truth

    for place in places:
        yield from unusable.usable([item_or_problem(lambda: prepared(place))])  # noqa: B023


class _Comparison(Protocol):
    """Takes both files' answers, an image each, with what is known of it."""

    def answer(self, predictor: Predictor, image: Any) -> Any: ...
    def update(self, pair: Sequence[Any], truth: Any) -> None: ...
    def result(self, num_images: int) -> Agreement: ...


_Measured = dict[str, tuple[float | None, float | None]]


class _Classifiers:
    share = figure = "top-1"

    def __init__(self, model: Any, samples: Samples[Any]) -> None:
        self.logits: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.labels: list[Any] = []
        self.num_classes = model.num_classes

    @torch.inference_mode()
    def answer(self, predictor: Predictor, image: Tensor) -> Tensor:
        logits: Tensor = predictor.model(image[None])
        return logits

    def update(self, pair: Sequence[Tensor], truth: Any) -> None:
        for logits, one in zip(self.logits, pair, strict=True):
            logits.append(one)
        self.labels.append(truth)

    def result(self, num_images: int) -> Agreement:
        first, second = (torch.cat(logits) for logits in self.logits)
        apart = (first - second).abs() / first.abs().max().clamp(min=1e-30)
        known = all(label is not None for label in self.labels)
        return Agreement(
            num_images=num_images,
            shares={self.share: float(self.same(first, second).float().mean())},
            logits={"mean": float(apart.mean()), "largest": float(apart.max())},
            measured={self.figure: (self.measure(first), self.measure(second))} if known else {},
        )

    def same(self, first: Tensor, second: Tensor) -> Tensor:
        return first.argmax(dim=1) == second.argmax(dim=1)

    def measure(self, logits: Tensor) -> float | None:
        counts = ClassificationCounts(self.num_classes)
        counts.add(logits, torch.tensor(self.labels))
        return counts.in_top1 / counts.num_images


class _MultiLabel(_Classifiers):
    share, figure = "labels", "mAP"

    def same(self, first: Tensor, second: Tensor) -> Tensor:
        return (first >= 0) == (second >= 0)

    def measure(self, logits: Tensor) -> float | None:
        if not np.any(self.labels):
            return None
        counts = MultiLabelCounts(self.num_classes)
        counts.add(logits, torch.from_numpy(np.stack(self.labels)))
        return counts.report([str(index) for index in range(self.num_classes)]).mean_ap


class _Maps:
    def __init__(self, model: Any, samples: Samples[Any]) -> None:
        self.evaluators = [SegmentationEvaluator(model.num_classes) for _ in range(2)]
        self.same = self.pixels = 0

    def answer(self, predictor: Predictor, image: Any) -> SegmentationMap:
        return predictor.predict_prepared([image])[0]  # type: ignore[return-value]

    def update(self, pair: Sequence[SegmentationMap], truth: Any) -> None:
        self.same += int((pair[0].labels == pair[1].labels).sum())
        self.pixels += pair[0].labels.size
        if truth is not None:
            for evaluator, one in zip(self.evaluators, pair, strict=True):
                evaluator.update(one.labels, truth)

    def result(self, num_images: int) -> Agreement:
        measured: _Measured = {}
        if self.evaluators[0].confusion_matrix.any():
            first, second = (evaluator.report().miou for evaluator in self.evaluators)
            measured["mIoU"] = (first, second)
        return Agreement(
            num_images=num_images, shares={"pixels": self.same / self.pixels}, logits={}, measured=measured
        )


class _Objects:
    def __init__(self, model: Any, samples: Samples[Any]) -> None:
        self.classes, self.samples = model.classes, samples
        self.found: list[tuple[int | None, Sequence[Detections]]] = []
        self.counts = np.zeros((2, 2), dtype=np.int64)  # objects of each, and those that the other has too

    def answer(self, predictor: Predictor, image: Any) -> Detections:
        return predictor.predict_prepared([image])[0]  # type: ignore[return-value]

    def update(self, pair: Sequence[Detections], truth: int | None) -> None:
        first, second = (one.above(SCORE) for one in pair)
        boxes = [torch.from_numpy(one.boxes_xyxy) for one in (first, second)]
        alike = pairwise_iou(*boxes).numpy() >= IOU
        alike &= first.labels[:, None] == second.labels
        self.counts += [[len(first), alike.any(axis=1).sum()], [len(second), alike.any(axis=0).sum()]]
        if truth is not None:
            self.found.append((truth, pair))

    def result(self, num_images: int) -> Agreement:
        again, old = (int(both) / int(all_) if all_ else 1.0 for all_, both in self.counts)
        return Agreement(
            num_images=num_images,
            shares={"found again": again, "not new": old},
            logits={},
            measured=self._measured() if self.found else {},
        )

    def _measured(self) -> _Measured:
        seen = {image_id for image_id, _ in self.found}
        coco = dict(self.samples.coco())  # type: ignore[attr-defined]
        coco["images"] = [one for one in coco["images"] if one["id"] in seen]
        coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] in seen]
        classes = self.classes or self.samples.classes  # type: ignore[attr-defined]
        scores: dict[str, list[float | None]] = {}
        for side in range(2):
            evaluator = CocoEvaluator(coco, classes=classes)
            for image_id, pair in self.found:
                assert image_id is not None
                evaluator.update(image_id, pair[side])
            for kind, one in evaluator.report().by_kind.items():
                scores.setdefault({"boxes": "box AP", "masks": "mask AP"}[kind], []).append(one.metrics["AP"])
        return {name: (both[0], both[1]) for name, both in scores.items() if len(both) == 2}


_COMPARISONS: dict[str, Any] = {"classification": _Classifiers, "segmentation": _Maps, "detection": _Objects}
