"""`swin evaluate` for segmenters: mIoU, mean and overall accuracy, and intersection over union of each class."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..checks import plural
from ..evaluation.report import difference, percent
from ..names import composed
from . import terminal
from .errors import UsageError

if TYPE_CHECKING:
    from ..data.segmentation.dataset import SceneLabelMaps, SegmentationFolder
    from ..data.segmentation.drawn import DrawnLabelMaps
    from ..evaluation.segmentation import SegmentationReport
    from ..models.segmentation import Segmenter


def run(model: Segmenter, options: argparse.Namespace, device: str | None) -> int:
    """Measures, shows and saves; the exit code."""
    from ..evaluation.segmentation import SegmentationEvaluator
    from .evaluate_images import build_predictor, end, measure

    predictor = build_predictor(model, options, device)
    samples = open_samples(options.data, model)
    check_classes(model, samples.classes)
    evaluator = SegmentationEvaluator(model.num_classes, samples.classes)
    unusable = measure(
        predictor,
        samples,
        ["labels"],
        lambda known, result: evaluator.update(result.labels, known),
        options.num_workers,
    )
    report = evaluator.report(skipped=list(unusable.problems))
    show(report)
    save(report, Path(options.output))
    return end(unusable)


def open_samples(data: argparse.Namespace, model: Segmenter) -> SegmentationFolder | SceneLabelMaps | DrawnLabelMaps:
    """The images and label maps that the `--data` options name."""
    from ..data.segmentation.dataset import SegmentationFolder
    from ..data.segmentation.folders import CLASS_FILES, find_segmentation, layout_of
    from ..data.segmentation.source import DRAWN_KINDS, KNOWN_KINDS, SegmentationSource
    from .evaluate_images import tell_held_out

    split: Literal["train", "val", "test"] = data.split or "val"
    source = SegmentationSource(
        kind=data.kind,
        root=data.root,
        ignore_label=data.ignore_label,
        choice=data.classes,
        label_suffix=data.label_suffix,
        val_fraction=data.val_fraction,
        seed=data.seed,
        channels=3 if model.preprocessing is None else model.preprocessing.channels,
        max_pixels=data.max_pixels,
        white_level=None if model.preprocessing is None else model.preprocessing.white_level,
        num_scenes=data.num_scenes,
        num_val_scenes=data.num_scenes,
    )
    if data.kind not in ("folder", *KNOWN_KINDS):
        return (replace(source, classes=model.classes) if data.kind in DRAWN_KINDS else source).open(split)
    if data.allow_outside:
        raise UsageError("--data.allow_outside is for detection, and this model is for segmentation; leave it out")
    if data.annotations is not None:
        raise UsageError("--data.annotations is for detection, and this model is for segmentation; give --data.labels")
    if data.images is not None or data.labels is not None:
        if data.images is None or data.labels is None:
            raise UsageError("images and label maps belong together: give both --data.images and --data.labels")
        pair = (data.images, data.labels)
        folders = [folder for path in map(Path, pair) for folder in (path, path.parent)]
        known = any((folder / name).is_file() for folder in folders for name in CLASS_FILES)
        if not known and data.kind == "folder":
            source = replace(source, classes=model.classes, palette=model.palette)
        return replace(source, train=pair, val=pair).open(split)
    layout = find_segmentation(data.root, split, layout_of(data.kind))
    if layout.hold_out:
        tell_held_out(data, split, layout.images)
    # ADE20K's folders may hold one's own data, which a model of another number of classes settles.
    known = data.kind == "ade20k" or (layout.ade20k and model.num_classes == 150)
    own = known or layout.classes_file is not None or layout.known is not None or data.classes is not None
    samples = replace(source, classes=None if own else model.classes).open(split)
    if isinstance(samples, SegmentationFolder) and samples.guess:
        terminal.notes().print(samples.guess)
    return samples


def show(report: SegmentationReport) -> None:
    """Prints the figures, the classes from worst to best; those that are nowhere come first."""
    output = terminal.output()
    table = terminal.table("class", "IoU", "accuracy", "pixels", numbers=slice(1, None))
    pixels = sum(report.pixels.values())
    for name, iou in sorted(report.iou.items(), key=lambda item: -1.0 if item[1] is None else item[1]):
        table.add_row(name, percent(iou), percent(report.accuracy[name]), f"{report.pixels[name] / pixels:.1%}")
    output.print(table)
    over = f"over {report.num_scored} of {len(report.classes)} classes"
    figures = f"mIoU {report.miou:.2%} {over}, mAcc {report.macc:.2%}, aAcc {report.aacc:.2%}"
    output.print(f"{plural(report.num_images, 'image')}: {figures}")


def save(report: SegmentationReport, folder: Path) -> None:
    """Writes report and picture, and prints where."""
    from ..visualize import class_scores_picture

    notes = terminal.notes()
    notes.print(f"report: {report.save(folder)}")
    picture = folder / "class_iou.png"
    class_scores_picture(report.iou, picture, what="IoU", mean=report.miou)
    notes.print(f"IoU of each class: {picture}")


def check_classes(model: Segmenter, classes: tuple[str, ...]) -> None:
    """Raises a `UsageError` where the data's classes are not the model's."""
    known = model.classes if model.classes is not None else classes
    if [*map(composed, known)] == [*map(composed, classes)] and len(classes) == model.num_classes:
        return
    raise UsageError(
        f"the data has {len(classes)} classes and the model {model.num_classes}: {difference(classes, known)}. "
        "Name them in classes.txt as the model does, or take the model that was trained on this data"
    )
