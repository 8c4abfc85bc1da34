"""Lists the published models, their size, their public weights and the accuracy that their authors published.

  swin models                          one line a model
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

from ..backbone.complexity import count_parameters, variant_flops
from ..backbone.config import VARIANTS, find_variant
from ..weights.catalog import WeightsRecord, find_record, records
from . import terminal

TASKS = ("classification",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=TASKS, default="classification", help="what the models are for")
    parser.add_argument("--name", metavar="PATTERN", help="only models whose name holds this, or fits it as a glob")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> int:
    names = find_models(options.name)
    if options.json:
        print(json.dumps([describe(name) for name in names], indent=2))
    elif options.name:
        terminal.output().print(_weights_table(names))
    else:
        terminal.output().print(_models_table(names))
        terminal.notes().print(
            "top-1: of the default weights on ImageNet-1K's validation images, in percent, as their authors published\n"
            "it. `swin models --name NAME` lists a model's weights, each with its source. The small model in the\n"
            "package, for Fashion-MNIST, is called fashion: `swin predict --weights fashion picture.png`."
        )
    return 0


def find_models(pattern: str | None) -> list[str]:
    """Official names that hold `pattern` or fit it as a glob; all of them where it is None.

    Raises:
        ConfigError: none does; the message suggests near ones.
    """
    if pattern is None:
        return list(VARIANTS)
    names = [name for name in VARIANTS if pattern in name or fnmatch.fnmatchcase(name, pattern)]
    if not names:
        find_variant(pattern)
    return names


def describe(name: str) -> dict[str, Any]:
    """A model and its weights in plain types."""
    variant = find_variant(name)
    return {
        "name": name,
        "task": "classification",
        "image_size": variant.image_size,
        "parameters": count_parameters(variant.config),
        "flops": variant_flops(name),
        "config": variant.config.to_dict(),
        "weights": [_describe_weights(record) for record in records(name)],
    }


def _describe_weights(record: WeightsRecord) -> dict[str, Any]:
    return {**dataclasses.asdict(record), "preprocessing": record.preprocessing.to_dict()}


def _models_table(names: list[str]) -> Table:
    table = terminal.table("model", "image", "params", "GFLOPs", "top-1", "weights", numbers=slice(1, None))
    for name in names:
        variant = find_variant(name)
        table.add_row(
            name,
            str(variant.image_size),
            f"{count_parameters(variant.config) / 1e6:.1f}M",
            f"{variant_flops(name) / 1e9:.1f}",
            _percent(find_record(name)),
            str(len(records(name))),
        )
    return table


def _weights_table(names: list[str]) -> Table:
    table = terminal.table("weights", "top-1", "published by", "classes", "image", "licence", "address")
    for name in names:
        for record in records(name):
            height, width = record.preprocessing.image_size
            table.add_row(
                record.full_name,
                _percent(record),
                (record.top1_source or "").removeprefix("github.com/").partition(" ")[0],
                str(record.num_classes or "none"),
                f"{height}x{width}",
                record.licence,
                record.source,
            )
    return table


def _percent(record: WeightsRecord) -> str:
    return "" if record.top1 is None else f"{record.top1:.3f}".rstrip("0").rstrip(".")
