"""Shows what the package does, in about two minutes on two processors and without a download: it

1. evaluates the shipped model on the 1,000 held-out images of Fashion-MNIST in the package,
2. trains a small Swin from scratch on the 2,000 training images beside them, and evaluates it,
3. writes a grid of predictions, the confusion matrix, the training curve and the predictions as JSON lines.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveFloat

    parser.add_argument("--output", default="demo-output", metavar="DIR", help="where pictures and results go")
    parser.add_argument(
        "--seconds", type=PositiveFloat, default=60.0, metavar="S", help="about how long to train; one epoch at least"
    )


def run(options: argparse.Namespace) -> int:
    from ..demo import run_demo

    console = terminal.output()
    result = run_demo(Path(options.output), seconds=options.seconds, console=console)
    table = terminal.table(f"3. Done in {result.seconds:.0f} s; look at", "")
    for name, path in result.files.items():
        table.add_row(name, str(path))
    console.print(table)
    console.print(
        f"top-1 of the shipped model {result.shipped.top1:.1%}, of the one trained here {result.trained.top1:.1%}"
    )
    console.print(f"next: swin predict --weights fashion {result.files['images to try']}")
    return 0
