"""COCO's twelve numbers for boxes and for masks, as pycocotools computes them (https://cocodataset.org/#detection-eval).

faster-coco-eval does the counting; the tests hold it against pycocotools on the same results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..extras import require
from ..names import by_name, composed
from ..results import Detections
from ..rle import says_pixels
from ..whole import write_text
from .report import EvaluationError, Report

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""Average precision over IoU 0.5 to 0.95, at 0.5, at 0.75, of small (below 32x32 pixels), medium and large (from 96x96)
objects; average recall with 1, 10 and 100 detections an image, and of small, medium and large objects."""

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
RECALLS = tuple(np.linspace(0.0, 1.0, 101).round(2).tolist())

Kind = Literal["bbox", "segm"]

_NEEDED = {"images": ("id",), "categories": ("id", "name"), "annotations": ("image_id", "category_id", "bbox")}


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionScores:
    """How a detector did, by its boxes or by its masks.

    Attributes:
        metrics: the twelve numbers by their names, `METRICS`, in [0, 1]; None where there is nothing to measure, such
            as no small object (pycocotools says -1).
        precision: (10, 101, classes): the precision at each of `IOU_THRESHOLDS` and `RECALLS`, over objects of any
            size and at most 100 detections an image; -1 for classes without objects.
        scores: of the same shape: the score from which on objects are kept at that recall.
        classes: the names of the classes that were measured.
    """

    metrics: dict[str, float | None]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: tuple[str, ...]

    def per_class(self, iou: float | None = None) -> dict[str, float]:
        """Class name -> average precision over all thresholds, or at one; classes without objects are left out."""
        chosen = self.precision if iou is None else self.precision[[IOU_THRESHOLDS.index(iou)]]
        means = {name: chosen[:, :, index] for index, name in enumerate(self.classes)}
        return {name: float(values.mean()) for name, values in means.items() if values.max(initial=-1) > -1}

    def best_f1(self, iou: float = 0.5) -> dict[str, dict[str, float]]:
        """Class name -> "precision" and "recall" where "F1", their harmonic mean, is best, and the "score" that objects
        are kept from there; classes without objects are left out.

        They are read off COCO's curve, so that recall is rounded down to hundredths.
        """
        recall, index = np.array(RECALLS), IOU_THRESHOLDS.index(iou)
        best = {}
        for name, precision, scores in zip(self.classes, self.precision[index].T, self.scores[index].T, strict=True):
            if precision.max() < 0:
                continue
            f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
            values = {"precision": precision, "recall": recall, "F1": f1, "score": scores}
            best[name] = {what: float(value[f1.argmax()]) for what, value in values.items()}
        return best

    def curve(self, iou: float) -> NDArray[np.float64]:
        """(101,): the precision at each of `RECALLS`, the mean over the classes that have objects."""
        values = self.precision[IOU_THRESHOLDS.index(iou)]
        known = values[:, (values > -1).any(axis=0)]
        return known.mean(axis=1) if known.shape[1] else np.zeros(len(RECALLS))

    def to_dict(self) -> dict[str, Any]:
        """Plain types only: the metrics, the classes' APs and best F1s at IoU 0.5, and the curve at each threshold."""
        return {
            **self.metrics,
            "per_class": {
                name: {"AP": ap, "AP50": self.per_class(0.5)[name], "AP75": self.per_class(0.75)[name]} | best[name]
                for best in [self.best_f1()]
                for name, ap in self.per_class().items()
            },
            "precision_at_recall": {str(iou): self.curve(iou).round(4).tolist() for iou in IOU_THRESHOLDS},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionReport(Report):
    """How a detector did on a data set.

    Attributes:
        boxes: by the overlap of boxes.
        masks: by the overlap of masks; None where annotations or detections have none.
        classes: the names of the classes that were measured.
        num_images: the images that the annotations name.
        num_objects: the annotated objects, crowds left out.
        num_detections: what the detector found.
        skipped: for each image that could not be used, what is wrong with it. It counts as one without detections.
    """

    boxes: DetectionScores
    masks: DetectionScores | None
    classes: tuple[str, ...]
    num_images: int
    num_objects: int
    num_detections: int
    skipped: tuple[str, ...] = ()

    @property
    def by_kind(self) -> dict[str, DetectionScores]:
        """The scores of boxes and, if there are any, of masks."""
        return {"boxes": self.boxes} | ({"masks": self.masks} if self.masks is not None else {})


class CocoEvaluator:
    """Holds detections against COCO annotations.

    Args:
        annotations: the content of a COCO file: "images", "annotations" and "categories". It is not changed. Boxes
            are always measured, so each annotation has one; masks are where each has one.
        classes: the detector's class names by index; they meet the categories by name. What is found of a class that
            no category has counts for nothing; categories that the detector does not know are not measured.

    An image that is never passed to `update` counts as one in which nothing was found, as pycocotools has it.

    Raises:
        EvaluationError: something of the annotations is missing, names are ambiguous, or no class is among the
            categories.
    """

    def __init__(self, annotations: Mapping[str, Any], *, classes: Sequence[str]) -> None:
        _check(annotations)
        self._images = {int(image["id"]): image for image in annotations["images"]}
        ids = {str(category["name"]): int(category["id"]) for category in annotations["categories"]}
        for what, names in (("categories", [one["name"] for one in annotations["categories"]]), ("classes", classes)):
            if twice := [name for name, count in Counter(map(composed, names)).items() if count > 1]:
                raise EvaluationError(f"two {what} have the name {twice[0]!r}; rename one, they are told apart by it")
        self._category_of: list[Any] = [*map(by_name(ids), classes)]  # None for a class that no category has
        if all(category is None for category in self._category_of):
            raise EvaluationError(
                f"none of the annotations' categories ({_some(ids)}) is a class of the model ({_some(classes)}); "
                "take the model that was trained on them, or rename the categories"
            )
        known = set(self._category_of) - {None}
        self.classes = tuple(name for name, category in sorted(ids.items(), key=itemgetter(1)) if category in known)
        self._categories = [dict(one) for one in annotations["categories"] if int(one["id"]) in known]
        self._annotations = [
            _completed(annotation, number)
            for number, annotation in enumerate(annotations["annotations"], start=1)
            if annotation["category_id"] in known
        ]
        self._records: dict[Kind, list[dict[str, Any]]] = {"bbox": [], "segm": []}
        self._seen: set[int] = set()
        self._has_masks = all(says_pixels(annotation.get("segmentation")) for annotation in self._annotations)
        self._count = 0

    def update(self, image_id: int, detections: Detections) -> None:
        """Takes what was found in one image, in the image's own pixels.

        Raises:
            EvaluationError: the annotations do not name the image, give it another size, or it came before; or a
                label is none of the classes.
        """
        if not isinstance(detections, Detections):
            raise EvaluationError(f"the results of image {image_id} are a {type(detections).__name__}; give Detections")
        if len(detections) and not 0 <= detections.labels.min() <= detections.labels.max() < len(self._category_of):
            raise EvaluationError(
                f"the results of image {image_id} have labels from {detections.labels.min()} to "
                f"{detections.labels.max()}, and there are {len(self._category_of)} classes; name all of the model's"
            )
        image = self._images.get(image_id)
        if image is None or image_id in self._seen:
            problem = "is not among the annotations' images" if image is None else "came before"
            raise EvaluationError(f"the image {image_id} {problem}; give each of them once")
        annotated = image.get("height"), image.get("width")
        if None not in annotated and annotated != detections.image_size:
            name = image.get("file_name", image_id)
            raise EvaluationError(
                f"{name} has {_by(detections.image_size)} pixels (height x width) and its annotations are for "
                f"{_by(annotated)}; annotate the image as it is shown, or remove its rotation (EXIF)"
            )
        self._seen.add(image_id)
        self._count += len(detections)
        self._has_masks &= detections.mask_rles is not None
        # COCO's tools know a mask's area only where the record has no box, hence two lists.
        known = [label for label, category in enumerate(self._category_of) if category is not None]
        for record in detections[np.isin(detections.labels, known)].to_coco(image_id, self._category_of):
            mask, box = record.pop("segmentation", None), record.pop("bbox")
            self._records["bbox"].append({**record, "bbox": box})
            if mask is not None:
                self._records["segm"].append({**record, "segmentation": mask})

    def report(self, *, skipped: Sequence[str] = ()) -> DetectionReport:
        """The numbers of all images of the annotations; `skipped` is passed on."""
        return DetectionReport(
            boxes=self._scores("bbox"),
            masks=self._scores("segm") if self._has_masks else None,
            classes=self.classes,
            num_images=len(self._images),
            num_objects=sum(not annotation["iscrowd"] for annotation in self._annotations),
            num_detections=self._count,
            skipped=tuple(skipped),
        )

    def save_results(self, folder: str | Path) -> list[Path]:
        """Writes the detections as COCO's tools and its test server take them: detections.bbox.json, and for masks
        detections.segm.json. Returns their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        kinds: list[Kind] = ["bbox", "segm"] if self._has_masks else ["bbox"]
        paths = []
        for kind in kinds:
            path = folder / f"detections.{kind}.json"
            write_text(path, json.dumps(self._records[kind]))
            paths.append(path)
        return paths

    def _scores(self, kind: Kind) -> DetectionScores:
        coco = require("faster_coco_eval", extra="train")
        # Both write into the records that they are given.
        truth = coco.COCO(
            {
                "images": [dict(image) for image in self._images.values()],
                "annotations": [dict(annotation) for annotation in self._annotations],
                "categories": self._categories,
            }
        )
        found = truth.loadRes([dict(record) for record in self._records[kind]])
        evaluation = coco.COCOeval_faster(truth, found, iouType=kind, extra_calc=False)
        evaluation.run()
        values = [float(value) for value in evaluation.all_stats[: len(METRICS)]]
        order = {category: index for index, category in enumerate(evaluation.params.catIds)}
        ids = {str(one["name"]): int(one["id"]) for one in self._categories}
        measured = [order[ids[name]] for name in self.classes]
        precision, scores = (np.asarray(evaluation.eval[it])[..., measured, 0, -1] for it in ("precision", "scores"))
        return DetectionScores(
            metrics={name: value if value >= 0 else None for name, value in zip(METRICS, values, strict=True)},
            precision=precision,
            scores=scores,
            classes=self.classes,
        )


def _check(annotations: Mapping[str, Any]) -> None:
    """Raises an `EvaluationError` where something is missing that is measured by; `read_annotations` checks all."""
    for part, keys in _NEEDED.items():
        if part not in annotations:
            raise EvaluationError(f"the annotations have no {part!r}; give the content of a COCO file")
        for number, entry in enumerate(annotations[part]):
            for key in keys:
                if entry.get(key) is None:
                    raise EvaluationError(
                        f"number {number} of the {part} (id {entry.get('id')}) has no {key!r}; add it"
                    )
    images = {int(image["id"]) for image in annotations["images"]}
    for annotation in annotations["annotations"]:
        where = f"the annotation {annotation.get('id')} of image {annotation['image_id']}"
        if annotation["image_id"] not in images:
            raise EvaluationError(f"{where}: there is no such image; add it to the images, or remove the annotation")
        if len(annotation["bbox"]) != 4:
            raise EvaluationError(f"{where} has the bbox {annotation['bbox']}; give x, y, width and height")


def _completed(annotation: Mapping[str, Any], number: int) -> dict[str, Any]:
    """With the fields that people's own files may lack and COCO's tools need."""
    width, height = annotation["bbox"][2:]
    # pycocotools takes an object with the id 0 for one that was not found.
    return {"iscrowd": 0, "area": width * height, **annotation, "id": number}


def _some(names: Sequence[str] | Mapping[str, Any]) -> str:
    shown = ", ".join(list(names)[:5])
    return f"{shown}, ..." if len(names) > 5 else shown


def _by(size: Sequence[Any]) -> str:
    return f"{size[0]} x {size[1]}"
