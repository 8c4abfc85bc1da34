"""`swin evaluate` for classifiers: top-1 and top-5, accuracy of each class, confusion matrix.

Where an image may have several labels: mean average precision, F1, average precision of each class.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import plural
from ..data.held_out import PART_NAMES
from ..evaluation.report import percent
from . import terminal
from .errors import UsageError
from .predict import view_options

if TYPE_CHECKING:
    from ..data.classification.dataset import LabelledImages
    from ..evaluation.classification import ClassificationReport
    from ..evaluation.multi_label import MultiLabelReport
    from ..models.classification import SwinClassifier


def run(model: SwinClassifier, options: argparse.Namespace, device: str | None) -> int:
    """Measures, shows and saves; the exit code."""
    from ..data.classification.dataset import EvaluationDataset
    from ..data.transforms import create_transform
    from ..evaluation.classification import evaluate
    from ..evaluation.multi_label import MultiLabelReport
    from .evaluate_images import counted, end

    foreign = [f"--{name.replace('_', '-')}" for name, value in view_options(options).items() if value]
    labels = () if model.multi_label else ("labels",)
    others = ("annotations", "images", *labels, "label_suffix", "allow_outside")
    foreign += [f"--data.{name}" for name in others if getattr(options.data, name)]
    if foreign:
        raise UsageError(f"{', '.join(foreign)}: not for classification, which this model does; leave it out")
    images = open_images(options.data, model)
    if options.data.split is None and is_undivided(options.data, images):
        # Whoever measures the images that the model has learnt from should know.
        hint = "`--data.split val` measures only those that `swin train` held out"
        terminal.notes().print(
            f"all {len(images)} images of {options.data.root}, which has no part for validation; {hint}"
        )
    report = evaluate(
        model,
        EvaluationDataset(images, create_transform(model)),
        batch_size=options.batch_size or 64,
        device=device,
        num_workers=options.num_workers,
    )
    unusable = counted(images)
    unusable.usable(list(report.skipped))
    if isinstance(report, MultiLabelReport):
        show_labels(report)
        save_labels(report, Path(options.output))
    else:
        show(report)
        save(report, Path(options.output))
    return end(unusable)


def open_images(data: argparse.Namespace, model: SwinClassifier) -> LabelledImages:
    """The labelled images that the `--data` options name, with the model's class indices."""
    from ..data.classification.folder import guessed_order
    from ..data.classification.source import ClassificationSource
    from ..data.shards.options import ShardOptions

    kind: Any = "multi_label" if model.multi_label and data.kind == "folder" else data.kind
    if model.multi_label != (kind == "multi_label"):
        fix = "for a folder with a file of labels (--data.root)" if model.multi_label else "of one class an image"
        raise UsageError(f"--data {data.kind} is not for this model, which is {fix}; choose another")
    if model.multi_label and (data.root is None or data.class_order is not None):
        raise UsageError("this model is for several labels an image: give --data.root DIR, and no --data.class_order")
    source = ClassificationSource(
        kind=kind,
        root=data.root,
        labels=data.labels,
        channels=model.preprocessing.channels if model.preprocessing is not None else 3,
        classes=model.classes,
        class_order=data.class_order,
        choice=data.classes,
        val_fraction=data.val_fraction,
        seed=data.seed,
        max_pixels=data.max_pixels,
        decoding=data.decoding,
        white_level=None if model.preprocessing is None else model.preprocessing.white_level,
        shards=ShardOptions(cache=data.shards.cache, cache_gb=data.shards.cache_gb),
    )
    images = source.open(data.split)
    ordered = data.class_order is not None or data.classes is not None
    unknown = data.kind == "folder" and model.classes is None and not ordered
    if unknown and (guess := guessed_order(images.classes)):
        terminal.notes().print(f"{data.root}: {guess}")
    return images


def is_undivided(data: argparse.Namespace, images: LabelledImages) -> bool:
    """Whether it is a folder in which no images for validation are set apart."""
    named = (Path(data.root) / name for name in PART_NAMES["val"])
    if data.kind == "folder":
        return not any(path.is_dir() for path in named)
    return bool(getattr(images, "held_out", False))


def show(report: ClassificationReport) -> None:
    """Prints the figures, the classes from worst to best."""
    output = terminal.output()
    table = terminal.table("class", "accuracy", "precision", "F1", numbers=slice(1, None))
    for name, accuracy in sorted(report.per_class.items(), key=lambda item: item[1]):
        table.add_row(name, percent(accuracy), percent(report.precision[name]), percent(report.f1[name]))
    output.print(table)
    output.print(f"{plural(report.num_images, 'image')}: top-1 {report.top1:.2%}, top-5 {report.top5:.2%}")


def save(report: ClassificationReport, folder: Path) -> None:
    """Writes the report as JSON and the confusion matrix as a picture, and prints where."""
    from ..visualize import confusion_matrix_picture

    notes = terminal.notes()
    notes.print(f"report: {report.save(folder)}")
    picture = folder / "confusion_matrix.png"
    confusion_matrix_picture(report.confusion_matrix, report.classes, picture)
    notes.print(f"confusion matrix: {picture}")


def show_labels(report: MultiLabelReport) -> None:
    """Likewise where images have several labels; classes that none has come first."""
    output = terminal.output()
    table = terminal.table("class", "AP", "F1", "images", numbers=slice(1, None))
    for name, ap in sorted(report.ap.items(), key=lambda item: -1.0 if item[1] is None else item[1]):
        table.add_row(name, percent(ap), percent(report.class_f1[name]), f"{report.positives[name]:,}")
    output.print(table)
    over = f"over {report.num_scored} of {len(report.classes)} classes"
    output.print(f"{plural(report.num_images, 'image')}: mAP {report.mean_ap:.2%} {over}, F1 {report.f1:.2%}")


def save_labels(report: MultiLabelReport, folder: Path) -> None:
    """Writes report and picture, and prints where."""
    from ..visualize import class_scores_picture

    notes = terminal.notes()
    notes.print(f"report: {report.save(folder)}")
    picture = folder / "class_ap.png"
    class_scores_picture(report.ap, picture, what="average precision", mean=report.mean_ap)
    notes.print(f"average precision of each class: {picture}")
