"""Measures inference and training here, on this machine, beside timm, torchvision and transformers where installed.

swin benchmark                                            Swin-T, one and eight images, float32
swin benchmark --training --dtypes float32 bfloat16       the time and memory of a training step too
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import terminal

DTYPES = ("float32", "bfloat16", "float16")
PEERS = ("timm", "torchvision", "transformers")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    name = "swin_tiny_patch4_window7_224"
    parser.add_argument("--models", nargs="+", metavar="NAME", default=[name], help="official names")
    parser.add_argument("--batch-sizes", nargs="+", type=PositiveInt, metavar="N", default=[1, 8], help="images")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"], help="precisions")
    parser.add_argument("--image-size", type=PositiveInt, default=224, help="pixels of the images' sides")
    parser.add_argument("--training", action="store_true", help="measure a training step as well")
    parser.add_argument("--rounds", type=PositiveInt, default=10, help="measurements; the median counts")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="libraries to compare with")
    parser.add_argument("--output", metavar="FILE", help="also write the figures, as JSON")


def run(options: argparse.Namespace) -> int:
    from .. import benchmark

    report = benchmark.run(
        models=options.models,
        batch_sizes=options.batch_sizes,
        dtypes=options.dtypes,
        image_size=options.image_size,
        training=options.training,
        rounds=options.rounds,
        peers=options.peers,
    )
    terminal.output().print(report.table())
    if options.output is not None:
        path = Path(options.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
        terminal.notes().print(f"figures: {path}")
    return 0
