"""Lists the published models, their size, their public weights and the figures that their authors published.

  swin models                          one line a classifier
  swin models --task detection         the detectors; --task segmentation: the segmenters; --task panoptic: those that
                                       do both; --task pretraining: SimMIM's
  swin models --name swinv2_tiny       one line for each set of weights of the models so named
  swin models --json                   all of it, for a program

Weights are named model.tag, as in `swin predict --model swin_tiny_patch4_window7_224.in22k_ft_in1k photo.jpg`.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
from typing import Any

from rich.table import Table

from ..backbone.complexity import variant_flops
from ..backbone.config import find_variant
from ..models.config import (
    MASKED_VARIANTS,
    OTHER_VARIANTS,
    TASKS,
    DenseVariant,
    MaskedVariant,
    find_other_variant,
    model_names,
    parameter_counts,
)
from ..weights.catalog import WeightsRecord, find_record, records
from ..weights.preprocessing import Preprocessing
from . import terminal
from .errors import UsageError

_NOTES = {
    "classification": (
        "top-1: of the default weights on ImageNet-1K's validation images, in percent, as their authors published\n"
        "it. `swin models --name NAME` lists a model's weights, each with its source. The small model in the\n"
        "package, for Fashion-MNIST, is called fashion: `swin predict --weights fashion picture.png`.\n"
        "Detectors and segmenters: `swin models --task detection`, `swin models --task segmentation`."
    ),
    "detection": (
        "box AP, mask AP: of the default weights on COCO's validation images, in percent, as their authors published\n"
        "them. Without weights: start from a classifier's and train. `swin models --name NAME` lists a model's weights."
    ),
    "segmentation": (
        "mIoU, ms+flip: of the default weights on ADE20K's validation images, in percent, at one scale and at several\n"
        "with their mirror images, as their authors published it. Without weights: start from a classifier's and\n"
        "train. `swin models --name NAME` lists a model's weights."
    ),
    "panoptic": (
        "PQ, mask AP, mIoU: of the default weights on COCO's validation images, in percent, as their authors\n"
        "published them. Without weights: start from a classifier's and train. `swin models --name NAME` lists a\n"
        "model's weights, of which those for non-commercial use alone are never the default."
    ),
    "pretraining": (
        "Masked pre-training (SimMIM), to fine-tune others from. The weights are those of the classifier of the same\n"
        "backbone: `swin models --name swin_base_patch4_window6` lists them with their sources."
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        choices=TASKS,
        help="what the models are for (default: classification, or another where --name fits no classifier)",
    )
    parser.add_argument("--name", metavar="PATTERN", help="only models whose name holds this, or fits it as a glob")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> int:
    names = find_models(options.name, options.task)
    task = _task(names[0])
    if options.json:
        print(json.dumps([describe(name) for name in names], indent=2))
    elif options.name and any(map(records, names)):
        terminal.output().print(_weights_table(names, task))
    else:
        tables = {"classification": _classifiers_table, "pretraining": _masked_table}
        terminal.output().print(tables[task](names) if task in tables else _dense_table(names, task))
        terminal.notes().print(_NOTES[task])
    return 0


def find_models(pattern: str | None, task: str | None = None) -> list[str]:
    """Official names, of one task, that hold `pattern` or fit it as a glob; all of them where it is None.

    Args:
        pattern: part of a name, or a glob.
        task: one of `TASKS`; None: the first of them that has such a name.

    Raises:
        ConfigError: none does; the message suggests near ones.
    """
    for wanted in (task,) if task is not None else TASKS:
        names = model_names(wanted)
        if pattern is not None:
            names = [name for name in names if pattern in name or fnmatch.fnmatchcase(name, pattern)]
        if names:
            return names
    if task is None:
        find_other_variant(pattern or "")
    others = find_models(pattern)
    raise UsageError(f"--task {task} has no model {pattern!r}, {_task(others[0])} has: {', '.join(others[:3])}")


def describe(name: str) -> dict[str, Any]:
    """A model and its weights in plain types."""
    parameters = parameter_counts()[name]
    variant = OTHER_VARIANTS[name] if name in OTHER_VARIANTS else find_variant(name)
    figures: dict[str, Any]
    if isinstance(variant, DenseVariant):
        figures = {"backbone": variant.backbone, "published": variant.published, "parameters": parameters}
    elif isinstance(variant, MaskedVariant):
        sizes = {"image_size": variant.image_size, "parameters": parameters}
        figures = {"backbone": variant.backbone, "starts_from": variant.weights, **sizes}
    else:
        figures = {"image_size": variant.image_size, "parameters": parameters, "flops": variant_flops(name)}
    weights = [_describe_weights(record) for record in records(name)]
    return {"name": name, "task": _task(name), **figures, "config": variant.config.to_dict(), "weights": weights}


_FIGURES = {
    "classification": ("top1",),
    "detection": ("box_ap", "mask_ap"),
    "segmentation": ("miou", "miou_multiscale"),
    "panoptic": ("pq", "mask_ap", "miou"),
}
_DIGITS = {"box_ap": 1, "mask_ap": 1, "miou": 2, "miou_multiscale": 2, "pq": 1}
_TITLES = {
    "top1": "top-1",
    "box_ap": "box AP",
    "mask_ap": "mask AP",
    "miou": "mIoU",
    "miou_multiscale": "ms+flip",
    "pq": "PQ",
}


def _describe_weights(record: WeightsRecord) -> dict[str, Any]:
    """Its fields, of the figures those of its task alone."""
    others = {figure for figures in _FIGURES.values() for figure in figures} - {*_FIGURES[record.task]}
    values = {name: value for name, value in dataclasses.asdict(record).items() if name not in others}
    if record.task == "classification":
        values["top1_source"] = values.pop("published_by")
    return {**values, "preprocessing": record.preprocessing.to_dict()}


def _titles(task: str) -> list[str]:
    return [_TITLES[figure] for figure in _FIGURES[task]]


def _task(name: str) -> str:
    return OTHER_VARIANTS[name].task if name in OTHER_VARIANTS else "classification"


def _classifiers_table(names: list[str]) -> Table:
    table = terminal.table("model", "image", "params", "GFLOPs", "top-1", "weights", numbers=slice(1, None))
    for name in names:
        variant = find_variant(name)
        table.add_row(
            name,
            str(variant.image_size),
            f"{parameter_counts()[name] / 1e6:.1f}M",
            f"{variant_flops(name) / 1e9:.1f}",
            _percent(find_record(name)),
            str(len(records(name))),
        )
    return table


def _dense_table(names: list[str], task: str) -> Table:
    figures = _FIGURES[task]
    table = terminal.table("model", "params", *_titles(task), "weights", numbers=slice(1, None))
    for name in names:
        own = records(name)
        default = next((record for record in own if record.commercial), None)
        published = [_percent(default, figure) if default is not None else "" for figure in figures]
        table.add_row(name, f"{parameter_counts()[name] / 1e6:.1f}M", *published, str(len(own)))
    return table


def _masked_table(names: list[str]) -> Table:
    table = terminal.table("model", "image", "params", "weights", numbers=slice(1, 3))
    for name in names:
        variant = MASKED_VARIANTS[name]
        size = f"{parameter_counts()[name] / 1e6:.1f}M"
        table.add_row(name, str(variant.image_size), size, variant.weights or "none")
    return table


def _weights_table(names: list[str], task: str) -> Table:
    figures = _FIGURES[task]
    table = terminal.table("weights", *_titles(task), "published by", "classes", "image", "licence", "address")
    for name in names:
        for record in records(name):
            table.add_row(
                record.full_name,
                *(_percent(record, figure) for figure in figures),
                (record.published_by or "").removeprefix("github.com/").partition(" ")[0],
                str(record.num_classes or "none"),
                _image(record),
                record.licence,
                record.source,
            )
    return table


def _image(record: WeightsRecord) -> str:
    """Pixels of a prepared image: height and width; of a dense model, most of the longer and of the shorter side."""
    preprocessing = record.preprocessing
    sides = preprocessing.image_size if isinstance(preprocessing, Preprocessing) else preprocessing.scale
    return f"{sides[0]}x{sides[1]}" if sides is not None else "its own"


def _percent(record: WeightsRecord, figure: str = "top1") -> str:
    value = getattr(record, figure)
    if value is None:
        return ""
    # Sources give a top-1 accuracy to one digit or to three, AP to one, mean IoU to two.
    return f"{value:.3f}".rstrip("0").rstrip(".") if figure == "top1" else f"{value:.{_DIGITS[figure]}f}"
