"""Measures a model on labelled images: top-1 and top-5, accuracy of each class, confusion matrix.

  swin evaluate --weights runs/flowers/best.ckpt --data.root flowers/
  swin evaluate --weights fashion --data fashion_sample
  swin evaluate --model swin_tiny_patch4_window7_224 --data.root imagenet/ --output evaluation/swin_tiny

A folder has one folder of images a class, named as the model's classes are (ImageNet's: by synset), itself or in val/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from . import model_source, terminal
from .errors import EXIT_SOME_BAD, UsageError

if TYPE_CHECKING:
    from ..data.training_dataset import LabelledImages
    from ..evaluation.classification import ClassificationReport
    from ..models.classification import SwinClassifier

KINDS = ("folder", "fashion_sample", "fashion_mnist")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import NonNegativeInt, PositiveInt

    model_source.add_model_options(parser, without_either="one of --weights and --model is needed")
    parser.add_argument(
        "--data.kind",
        choices=KINDS,
        default="folder",
        help="your folder, the 1,000 test images in the package, or all of Fashion-MNIST from its files in --data.root",
    )
    parser.add_argument("--data.root", metavar="DIR", help="the folder, for the kinds that have one")
    parser.add_argument(
        "--data.split",
        choices=("train", "val"),
        help="which images (default: val/ where the folder has it, else all; `val` also gives the part that `swin "
        "train` held out of a folder without val/)",
    )
    parser.add_argument(
        "--data.val_fraction", type=float, default=0.2, metavar="F", help="the part that training held out"
    )
    parser.add_argument("--data.seed", type=NonNegativeInt, default=0, metavar="S", help="the seed it did so with")
    parser.add_argument("--output", default="evaluation", metavar="DIR", help="where report and picture go")
    model_source.add_device_option(parser)
    parser.add_argument("--batch-size", type=PositiveInt, default=64, metavar="N", help="images at once")
    parser.add_argument("--num-workers", type=NonNegativeInt, default=0, metavar="N", help="processes that read images")


def rewrite(words: list[str]) -> list[str]:
    """`--data KIND` is short for `--data.kind KIND`, which the parser would take for the whole group."""
    return [
        f"--data.kind{word.removeprefix('--data')}" if word.partition("=")[0] == "--data" else word for word in words
    ]


def run(options: argparse.Namespace) -> int:
    if options.weights is None and options.model is None:
        raise UsageError("which model? add --weights CHECKPOINT, --weights fashion or --model NAME")
    if options.data.kind != "folder" and options.data.kind != "fashion_sample" and options.data.root is None:
        raise UsageError(f"--data {options.data.kind} needs --data.root DIR, the folder with its files")
    if options.data.kind == "folder" and options.data.root is None:
        raise UsageError("which images? add --data.root DIR, or --data fashion_sample for those in the package")
    from ..data.training_dataset import EvaluationDataset
    from ..data.transforms import create_transform
    from ..evaluation.classification import evaluate

    device = model_source.check_device(options.device)
    model = model_source.load(options)
    images = open_images(options.data, model)
    if options.data.kind == "folder" and options.data.split is None and not has_validation_folder(options.data.root):
        # Whoever measures the images that the model has learnt from should know.
        hint = "`--data.split val` measures only those that `swin train` held out"
        terminal.notes().print(f"all {len(images)} images of {options.data.root}, which has no folder val; {hint}")
    report = evaluate(
        model,
        EvaluationDataset(images, create_transform(model)),
        batch_size=options.batch_size,
        device=device,
        num_workers=options.num_workers,
    )
    for problem in report.skipped:
        print(f"swin: skipped: {problem}", file=sys.stderr)
    show(report)
    save(report, Path(options.output))
    return EXIT_SOME_BAD if report.skipped else 0


def open_images(data: argparse.Namespace, model: SwinClassifier) -> LabelledImages:
    """The labelled images that the `--data` options name, with the model's class indices."""
    from ..data.fashion import FashionMNIST, FashionSample
    from ..data.folder import ImageFolder

    if data.kind == "folder":
        held_out = {"val_fraction": data.val_fraction, "seed": data.seed}
        channels = model.preprocessing.channels if model.preprocessing is not None else 3
        return ImageFolder(data.root, data.split, channels=channels, classes=model.classes, **held_out)
    split: Literal["train", "test"] = "train" if data.split == "train" else "test"
    return FashionSample(split) if data.kind == "fashion_sample" else FashionMNIST(data.root, split)


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
