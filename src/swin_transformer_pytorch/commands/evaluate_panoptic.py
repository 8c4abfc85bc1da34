"""`swin evaluate` for panoptic models: panoptic quality, COCO's numbers for things, and mIoU, of one look an image."""

from __future__ import annotations

import argparse
import csv
import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..checks import plural
from ..data.errors import some
from ..data.images.unusable import item_or_problem
from ..data.samples import spread
from ..evaluation.report import difference, percent, told_apart
from ..names import composed
from ..whole import write_text
from . import terminal
from .errors import UsageError

if TYPE_CHECKING:
    from ..data.panoptic.dataset import PanopticDataset
    from ..data.panoptic.folders import PanopticFolder
    from ..data.panoptic.instance_maps import InstanceMaps
    from ..data.panoptic.layouts import InstanceMapFolders
    from ..data.scenes.panoptic import PanopticScenes
    from ..evaluation.coco import CocoEvaluator
    from ..evaluation.every_answer import EveryAnswerReport
    from ..models.mask2former import Mask2Former
    from ..predict import Predictor
    from ..predict.mask2former import EveryAnswer

    PanopticImages = PanopticDataset | InstanceMaps | PanopticScenes

_DRAWN = 6  # images in the picture


def run(model: Mask2Former, options: argparse.Namespace, device: str | None) -> int:
    """Measures, shows and saves; the exit code."""
    from ..evaluation.every_answer import EveryAnswerEvaluator
    from ..predict.every_answer import EveryAnswerPredictor
    from .evaluate_images import build_predictor, end, measure

    predictor = build_predictor(model, options, device)
    samples = open_samples(options.data, model)
    classes = model.classes if model.classes is not None else samples.classes
    _check_classes(model, samples)
    evaluator = EveryAnswerEvaluator(classes, model.config.thing_classes)

    def update(known: tuple[Any, ...], found: EveryAnswer) -> None:
        truth = dict(zip(_TRUTH, known, strict=True))
        evaluator.update(found.panoptic, found.instance, found.semantic, **truth)

    unusable = measure(EveryAnswerPredictor(predictor), samples, _TRUTH, update, options.num_workers)
    objects = evaluator.objects()
    report = evaluator.report(objects=objects, skipped=list(unusable.problems))
    show(report, evaluator.things)
    folder = Path(options.output)
    save(report, evaluator.things, objects, folder)
    draw(predictor, samples, folder / "segments.png")
    return end(unusable)


_TRUTH = ("image_id", "segment_ids", "labels", "crowd")


def open_samples(data: argparse.Namespace, model: Mask2Former) -> PanopticImages:
    """The images and segments that the `--data` options name."""
    from dataclasses import replace

    from ..data.panoptic.layouts import InstanceMapFolders
    from ..data.panoptic.source import PanopticSource
    from .evaluate_images import tell_held_out

    split: Literal["train", "val", "test"] = data.split or "val"
    of_model = None if "scenes" in data.kind else model.classes
    source = PanopticSource(
        kind=data.kind,
        root=data.root,
        classes=of_model,
        things=of_model and tuple(of_model[label] for label in model.config.thing_classes),
        choice=data.classes,
        label_suffix=data.label_suffix,
        ignore_label=data.ignore_label,
        val_fraction=data.val_fraction,
        seed=data.seed,
        num_scenes=data.num_scenes,
        num_val_scenes=data.num_scenes,
        channels=3 if model.preprocessing is None else model.preprocessing.channels,
        max_pixels=data.max_pixels,
        white_level=None if model.preprocessing is None else model.preprocessing.white_level,
    )
    if "scenes" not in data.kind:
        if data.allow_outside:
            raise UsageError("--data.allow_outside is for detection, and this model is for panoptic; leave it out")
        part = _named_folders(data) or source.folder(split)
        if part.hold_out:
            folder = part.images if isinstance(part, InstanceMapFolders) else part.images_folder
            tell_held_out(data, split, folder)
        source = replace(source, train=part, val=part)
    samples = source.open(split)
    if guess := getattr(samples, "guess", ""):
        terminal.notes().print(guess)
    return samples


def _named_folders(data: argparse.Namespace) -> PanopticFolder | InstanceMapFolders | None:
    """Where the options name the places of a part rather than its root."""
    from ..data.panoptic.folders import PanopticFolder
    from ..data.panoptic.layouts import InstanceMapFolders

    places = {name: getattr(data, name) for name in ("annotations", "images", "labels", "instances")}
    if not any(places.values()):
        return None
    images, labels, instances = (None if places[name] is None else Path(places[name]) for name in list(places)[1:])
    if data.annotations is not None and instances is None:
        file = Path(data.annotations)
        return PanopticFolder(
            images_folder=images or Path(data.root or file.parent),
            annotations_file=file,
            segments_folder=labels or file.with_suffix(""),
        )
    if data.annotations is None and images and labels and instances:
        return InstanceMapFolders(images=images, labels=labels, instances=instances)
    raise UsageError(
        "which segments? give --data.annotations and --data.images (COCO's panoptic format), or --data.images, "
        "--data.labels and --data.instances, or --data.root alone"
    )


def _check_classes(model: Mask2Former, samples: PanopticImages) -> None:
    """Raises a `UsageError` where the data's classes are not the model's; tells of things that are stuff to it."""
    classes = samples.classes
    known = model.classes if model.classes is not None else classes
    if [*map(composed, known)] != [*map(composed, classes)] or len(classes) != model.num_classes:
        raise UsageError(
            f"the data has {len(classes)} classes and the model {model.num_classes}: {difference(classes, known)}. "
            "Take the model that was trained on this data"
        )
    of_model = model.config.thing_classes
    if other := [classes[label] for label in samples.things if label not in of_model]:
        terminal.notes().print(f"things of the data that are stuff to the model, and measured as that: {some(other)}")
    there = getattr(samples, "category_ids", ())
    if other := [classes[one] for one in of_model if classes[one] in there and one not in samples.things]:
        terminal.notes().print(f"stuff of the data that are things to the model: one object an image: {some(other)}")


def show(report: EveryAnswerReport, things: list[int]) -> None:
    """Prints the classes from worst to best, then the figures of each answer."""
    from .evaluate_detection import numbers_table

    output = terminal.output()
    rows = sorted(_rows(report, things), key=lambda row: -1.0 if row["PQ"] is None else row["PQ"])
    shown = [name for name in rows[0] if name not in ("TP", "FP", "FN")]
    table = terminal.table(*shown, numbers=slice(2, None))
    for row in rows:
        table.add_row(row["class"], row["kind"], *(percent(row[name]) for name in shown[2:]))
    output.print(table)
    means = terminal.table("", "PQ", "SQ", "RQ", "classes", numbers=slice(1, None))
    panoptic = report.panoptic
    for name, part in (("all", panoptic.all), ("things", panoptic.things), ("stuff", panoptic.stuff)):
        if part is not None:
            means.add_row(name, percent(part.pq), percent(part.sq), percent(part.rq), str(part.num_classes))
    if report.instance is not None:
        output.print(numbers_table(report.instance))
    output.print(means)
    figures = [f"PQ {panoptic.all.pq:.2%}, SQ {panoptic.all.sq:.2%}, RQ {panoptic.all.rq:.2%}"]
    if report.instance is not None:
        kinds = report.instance.by_kind
        aps = [f"{kind} {percent(scores.metrics['AP'])}" for kind, scores in kinds.items()]
        figures.append(f"AP of {', '.join(aps)}")
    figures.append(f"mIoU {report.semantic.miou:.2%}")
    output.print(f"{plural(report.num_images, 'image')}: {', '.join(figures)}")


def save(report: EveryAnswerReport, things: list[int], objects: CocoEvaluator | None, folder: Path) -> None:
    """Writes report, table, detections and pictures, and prints where."""
    from ..visualize import class_scores_picture

    notes = terminal.notes()
    notes.print(f"report: {report.save(folder)}")
    rows = _rows(report, things)
    table = folder / "classes.csv"
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table, text.getvalue())
    notes.print(f"figures of each class: {table}")
    for path in () if objects is None else objects.save_results(folder):
        notes.print(f"things as COCO's tools take them: {path}")
    for what, mean in (("PQ", report.panoptic.all.pq), ("IoU", report.semantic.miou)):
        picture = folder / f"class_{what.lower()}.png"
        class_scores_picture({row["class"]: row[what] for row in rows}, picture, what=what, mean=mean)
        notes.print(f"{what} of each class: {picture}")


def draw(predictor: Predictor, samples: PanopticImages, path: Path) -> None:
    """Saves some images with what is there and what the model says side by side, and prints where."""
    from ..results import PanopticSegmentation
    from ..visualize import panoptic_overlay, picture_grid

    pictures = []
    for index in spread(samples, _DRAWN):
        sample = item_or_problem(partial(samples.__getitem__, index))
        if isinstance(sample, str):
            continue  # it has been named
        found = predictor(sample.image)
        assert isinstance(found, PanopticSegmentation)
        truth = sample.segmentation(samples.classes, samples.things, found.palette)
        pictures += [panoptic_overlay(sample.picture, one) for one in (truth, found)]
    if pictures:
        picture_grid(pictures, path, titles=["truth", "model"] * (len(pictures) // 2), columns=2)
        terminal.notes().print(f"segments of some images: {path}")


def _rows(report: EveryAnswerReport, things: list[int]) -> list[dict[str, Any]]:
    """The figures of each class, in the order of the classes; None for what it has not."""
    rows = []
    nothing = dict.fromkeys(("PQ", "SQ", "RQ", "TP", "FP", "FN"))
    kinds = {} if report.instance is None else report.instance.by_kind
    aps = {f"AP of {kind}": scores.per_class() for kind, scores in kinds.items()}
    for label, name in enumerate(told_apart(report.panoptic.classes)):
        row: dict[str, Any] = {"class": name, "kind": "thing" if label in things else "stuff"}
        row |= report.panoptic.per_class[name] or nothing
        row |= {what: scores.get(name) for what, scores in aps.items()}
        rows.append(row | {"IoU": report.semantic.iou[name]})
    return rows
