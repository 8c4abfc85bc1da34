"""`swin evaluate` for classifiers: top-1 and top-5, accuracy of each class, confusion matrix."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import terminal
from .errors import UsageError
from .predict import view_options

if TYPE_CHECKING:
    from ..data.classification.dataset import LabelledImages
    from ..evaluation.classification import ClassificationReport
    from ..models.classification import SwinClassifier


def run(model: SwinClassifier, options: argparse.Namespace, device: str | None) -> int:
    """Measures, shows and saves; the exit code."""
    from ..data.classification.dataset import EvaluationDataset
    from ..data.transforms import create_transform
    from ..evaluation.classification import evaluate
    from .evaluate_images import counted, end

    foreign = [f"--{name.replace('_', '-')}" for name, value in view_options(options).items() if value]
    others = ("annotations", "images", "labels", "label_suffix", "allow_outside")
    foreign += [f"--data.{name}" for name in others if getattr(options.data, name)]
    if foreign:
        raise UsageError(f"{', '.join(foreign)}: not for classification, which this model does; leave it out")
    images = open_images(options.data, model)
    if options.data.kind == "folder" and options.data.split is None and not has_validation_folder(options.data.root):
        # Whoever measures the images that the model has learnt from should know.
        hint = "`--data.split val` measures only those that `swin train` held out"
        terminal.notes().print(f"all {len(images)} images of {options.data.root}, which has no folder val; {hint}")
    report = evaluate(
        model,
        EvaluationDataset(images, create_transform(model)),
        batch_size=options.batch_size or 64,
        device=device,
        num_workers=options.num_workers,
    )
    unusable = counted(images)
    unusable.usable(list(report.skipped))
    show(report)
    save(report, Path(options.output))
    return end(unusable)


def open_images(data: argparse.Namespace, model: SwinClassifier) -> LabelledImages:
    """The labelled images that the `--data` options name, with the model's class indices."""
    from ..data.classification.folder import guessed_order
    from ..data.classification.source import ClassificationSource

    source = ClassificationSource(
        kind=data.kind,
        root=data.root,
        channels=model.preprocessing.channels if model.preprocessing is not None else 3,
        classes=model.classes,
        class_order=data.class_order,
        choice=data.classes,
        val_fraction=data.val_fraction,
        seed=data.seed,
        max_pixels=data.max_pixels,
        white_level=None if model.preprocessing is None else model.preprocessing.white_level,
    )
    images = source.open(data.split)
    ordered = data.class_order is not None or data.classes is not None
    unknown = data.kind == "folder" and model.classes is None and not ordered
    if unknown and (guess := guessed_order(images.classes)):
        terminal.notes().print(f"{data.root}: {guess}")
    return images


def has_validation_folder(root: str) -> bool:
    """Whether the images to measure lie apart."""
    return any((Path(root) / name).is_dir() for name in ("val", "valid", "validation"))


def show(report: ClassificationReport) -> None:
    """Prints the figures, the classes from worst to best."""
    output = terminal.output()
    table = terminal.table("class", "accuracy", numbers=slice(1, None))
    for name, accuracy in sorted(report.per_class.items(), key=lambda item: item[1]):
        table.add_row(name, f"{accuracy:.1%}")
    output.print(table)
    output.print(f"{report.num_images} images: top-1 {report.top1:.2%}, top-5 {report.top5:.2%}")


def save(report: ClassificationReport, folder: Path) -> None:
    """Writes the report as JSON and the confusion matrix as a picture, and prints where."""
    from ..visualize import confusion_matrix_picture

    notes = terminal.notes()
    notes.print(f"report: {report.save(folder)}")
    picture = folder / "confusion_matrix.png"
    confusion_matrix_picture(report.confusion_matrix, report.classes, picture)
    notes.print(f"confusion matrix: {picture}")
