"""`swin evaluate` for detectors: COCO's twelve numbers for boxes and masks, and average precision of each class."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..checks import plural
from ..evaluation.report import percent
from . import terminal
from .errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from ..data.detection.coco import CocoDataset
    from ..data.scenes.dataset import SceneDataset
    from ..evaluation.coco import CocoEvaluator, DetectionReport
    from ..models.detection import Detector

_MEANING = {
    "AP": "average precision, IoU 0.50 to 0.95",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "of small objects, below 32 x 32 pixels",
    "APm": "of medium objects",
    "APl": "of large objects, from 96 x 96 pixels",
    "AR1": "average recall, 1 detection an image",
    "AR10": "10 detections an image",
    "AR100": "100 detections an image",
    "ARs": "of small objects",
    "ARm": "of medium objects",
    "ARl": "of large objects",
}
_CURVES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)


def run(model: Detector, options: argparse.Namespace, device: str | None) -> int:
    """Measures, shows and saves; the exit code."""
    from ..evaluation.coco import CocoEvaluator
    from .evaluate_images import build_predictor, end, measure

    predictor = build_predictor(model, options, device)
    samples = open_samples(options.data, model)
    classes = model.classes if model.classes is not None else samples.classes
    if len(classes) != model.num_classes:
        raise UsageError(f"the data has {len(classes)} classes and the model {model.num_classes}, without names")
    evaluator = CocoEvaluator(samples.coco(), classes=classes)
    unusable = measure(predictor, samples, ["image_id"], evaluator.update, options.num_workers)
    report = evaluator.report(skipped=list(unusable.problems))
    show(report)
    save(report, evaluator, Path(options.output))
    return end(unusable)


def open_samples(data: argparse.Namespace, model: Detector) -> CocoDataset | SceneDataset:
    """The images that the `--data` options name."""
    from ..data.detection.folders import CocoFolder
    from ..data.detection.source import FOLDER_KINDS, DetectionSource
    from .evaluate_images import tell_held_out

    split: Literal["train", "val", "test"] = data.split or "val"
    source = DetectionSource(
        kind=data.kind,
        root=data.root,
        classes=model.classes,
        choice=data.classes,
        val_fraction=data.val_fraction,
        box_masks=True,
        allow_outside=data.allow_outside,
        num_scenes=data.num_scenes,
        num_val_scenes=data.num_scenes,
        seed=data.seed,
        channels=3 if model.preprocessing is None else model.preprocessing.channels,
        max_pixels=data.max_pixels,
        white_level=None if model.preprocessing is None else model.preprocessing.white_level,
    )
    if data.kind in FOLDER_KINDS:
        if data.labels is not None:
            raise UsageError(
                "--data.labels is for segmentation, and this model is for detection; give --data.annotations"
            )
        if data.annotations is not None:
            annotations = Path(data.annotations)
            part = CocoFolder(
                images_folder=Path(data.images or data.root or annotations.parent), annotations_file=annotations
            )
        elif data.root is None:
            raise UsageError("which objects? add --data.annotations FILE to --data.images, or give --data.root alone")
        else:
            part = source.folder(split)
            if data.images is not None:
                part = replace(part, images_folder=Path(data.images))
            if part.hold_out:
                tell_held_out(data, split, part.images_folder)
        source = replace(source, train=part, val=part)
    return source.open(split)


def show(report: DetectionReport) -> None:
    """Prints the twelve numbers, then the classes from worst to best."""
    output = terminal.output()
    kinds = report.by_kind
    classes = terminal.table(
        "class", *(f"{kind} {name}" for kind in kinds for name in ("AP", "AP50", "P", "R")), numbers=slice(1, None)
    )
    columns = []
    for scores in kinds.values():
        best = scores.best_f1()
        columns += [scores.per_class(), scores.per_class(0.5)]
        columns += [{name: best[name][what] for name in best} for what in ("precision", "recall")]
    for name, _ in sorted(columns[0].items(), key=lambda item: item[1]):
        classes.add_row(name, *(percent(column[name]) for column in columns))
    output.print(classes)
    output.print("P and R: precision and recall at IoU 0.50, from the score on at which a class's F1 is best")
    output.print(numbers_table(report))
    figures = ", ".join(f"{kind} {percent(scores.metrics['AP'])}" for kind, scores in kinds.items())
    output.print(f"{plural(report.num_images, 'image')}, {plural(report.num_objects, 'object')}: AP of {figures}")


def numbers_table(report: DetectionReport) -> Table:
    """COCO's twelve numbers and what they mean."""
    kinds = report.by_kind
    numbers = terminal.table("", *kinds, "meaning", numbers=slice(1, 1 + len(kinds)))
    for metric, meaning in _MEANING.items():
        numbers.add_row(metric, *(percent(scores.metrics[metric]) for scores in kinds.values()), meaning)
    return numbers


def save(report: DetectionReport, evaluator: CocoEvaluator, folder: Path) -> None:
    """Writes report, detections and pictures, and prints where."""
    from ..visualize import class_scores_picture, precision_recall_picture

    notes = terminal.notes()
    notes.print(f"report: {report.save(folder)}")
    for path in evaluator.save_results(folder):
        notes.print(f"detections as COCO's tools take them: {path}")
    kinds = report.by_kind
    curves = {
        f"{kind}: AP {percent(scores.metrics['AP'])}": {
            f"IoU {iou:.2f}: {scores.curve(iou).mean():.1%}": scores.curve(iou) for iou in _CURVES
        }
        for kind, scores in kinds.items()
    }
    picture = folder / "precision_recall.png"
    precision_recall_picture(curves, picture)
    notes.print(f"precision against recall: {picture}")
    for kind, scores in kinds.items():
        if per_class := scores.per_class():
            picture = folder / f"class_ap_{kind}.png"
            class_scores_picture(per_class, picture, what=f"AP of {kind}", mean=scores.metrics["AP"])
            notes.print(f"AP of each class: {picture}")
