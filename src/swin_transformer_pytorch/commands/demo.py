"""Shows what the package does, in about two minutes on two processors and without a download. It

1. evaluates the shipped classifier on the 1,000 held-out images of Fashion-MNIST in the package,
2. detects the items in scenes composed of such images, their boxes and masks, and measures COCO's AP,
3. segments the same scenes, and measures mIoU,
4. finds each item in them as a segment, and the ground, and measures panoptic quality,
5. exports the classifier to ONNX, and compares the file's answers with the model's,
6. trains a small Swin from scratch on the 2,000 training images in the package, and evaluates it.

Pictures of all of it and the predictions as JSON lines are written, and images to try `swin predict` on.
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
    table = terminal.table(f"7. Done in {result.seconds:.0f} s; look at", "")
    for name, path in result.files.items():
        table.add_row(name, str(path))
    console.print(table)
    masks = result.detection.masks
    console.print(
        f"top-1 of the shipped model {result.shipped.top1:.1%}, of the one trained here {result.trained.top1:.1%}; "
        f"box AP {result.detection.boxes.metrics['AP'] or 0:.1%}, "
        f"mask AP {(masks.metrics['AP'] if masks is not None else None) or 0:.1%}; "
        f"mIoU {result.segmentation.miou:.1%}; PQ {result.panoptic.all.pq:.1%}"
    )
    console.print(f"next: swin predict --weights {result.files['exported model']} {result.files['images to try']}")
    console.print(f"      swin predict --weights fashion {result.files['images to try']}")
    console.print(f"      swin predict --weights scenes_detection {result.files['scenes to try']} --pictures found")
    console.print(f"      swin predict --weights scenes_segmentation {result.files['scenes to try']} --pictures maps")
    console.print(f"      swin predict --weights scenes_panoptic {result.files['scenes to try']} --pictures segments")
    return 0
