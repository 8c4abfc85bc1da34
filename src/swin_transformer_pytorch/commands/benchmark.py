"""Measures inference and training here, on this machine, beside other libraries' Swin where they are installed.

swin benchmark                                            Swin-T, one and eight images, float32
swin benchmark --training --dtypes float32 bfloat16       the time and memory of a training step too
swin benchmark --optimize --floor                         our optimised form too, and the model's products alone
swin benchmark --batch-sizes 1 --image-sizes 224 448 896 --memory --picture sizes.png
                                                          time and memory against the size of the image
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..whole import write_text
from . import terminal

DTYPES = ("float32", "bfloat16", "float16")
PEERS = ("timm", "torchvision", "transformers", "openvino")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    name = "swin_tiny_patch4_window7_224"
    parser.add_argument("--models", nargs="+", metavar="NAME", default=[name], help="official names")
    parser.add_argument("--batch-sizes", nargs="+", type=PositiveInt, metavar="N", default=[1, 8], help="images")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"], help="precisions")
    parser.add_argument(
        "--image-sizes",
        "--image-size",
        nargs="+",
        type=PositiveInt,
        metavar="N",
        default=[224],
        help="pixels of the images' sides",
    )
    parser.add_argument("--training", action="store_true", help="measure a training step as well")
    parser.add_argument(
        "--optimize", action="store_true", help="measure optimize_for_inference's form of the model too"
    )
    parser.add_argument("--floor", action="store_true", help="measure the model's own matrix products alone too")
    parser.add_argument("--memory", action="store_true", help="measure the peak memory of inference too")
    parser.add_argument("--rounds", type=PositiveInt, default=10, help="measurements; the median counts")
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=PEERS,
        default=list(PEERS),
        help="libraries to compare with; openvino runs timm's model, and needs timm and onnxscript",
    )
    parser.add_argument("--output", metavar="FILE", help="also write the figures, as JSON")
    parser.add_argument("--picture", metavar="FILE", help="also draw them; needs matplotlib, of the extra [train]")


def run(options: argparse.Namespace) -> int:
    from .. import benchmark
    from ..extras import require

    if options.picture is not None:
        require("matplotlib", extra="train")  # before the minutes that measuring takes
    report = benchmark.run(
        models=options.models,
        batch_sizes=options.batch_sizes,
        dtypes=options.dtypes,
        image_sizes=options.image_sizes,
        training=options.training,
        rounds=options.rounds,
        peers=options.peers,
        optimize=options.optimize,
        floor=options.floor,
        memory=options.memory,
    )
    terminal.output().print(report.table())
    if options.output is not None:
        path = Path(options.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(report.to_dict(), indent=2) + "\n")
        terminal.notes().print(f"figures: {path}")
    if options.picture is not None:
        report.save_picture(options.picture)
        terminal.notes().print(f"picture: {options.picture}")
    return 0
