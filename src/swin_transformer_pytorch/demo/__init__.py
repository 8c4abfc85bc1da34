"""`swin demo`: what the package does, on the real images inside it, without a download.

It measures the shipped models, exports one to ONNX, trains a small classifier from
scratch, and saves pictures, by the same functions as `swin evaluate`, `swin export`, `swin train` and `swin predict`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..evaluation.classification import ClassificationReport
from ..evaluation.coco import DetectionReport
from ..evaluation.panoptic import PanopticReport
from ..evaluation.segmentation import SegmentationReport
from ..extras import require
from . import classification, export, scenes


_NEEDED = {
    "train": ("lightning", "matplotlib", "faster_coco_eval"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
}


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What a demo measured and wrote.

    Attributes:
        shipped: the shipped classifier on the 1,000 embedded test images.
        detection: the shipped detector on held-out scenes.
        segmentation: the shipped segmenter on the same scenes.
        panoptic: the shipped panoptic model on the same scenes.
        exported: what the shipped classifier's ONNX file says beside it.
        trained: the classifier that was trained here, on the images of `shipped`.
        files: what was written, by what it is.
        seconds: how long it all took.
    """

    shipped: ClassificationReport
    detection: DetectionReport
    segmentation: SegmentationReport
    panoptic: PanopticReport
    exported: export.ExportedAnswers
    trained: ClassificationReport
    files: dict[str, Path]
    seconds: float


def run_demo(output: Path, *, seconds: float = 60, console: Console, progress: bool = True) -> DemoResult:
    """Runs the demo.

    Args:
        output: folder for what it writes; made where it is missing.
        seconds: about how long the model is trained; how many epochs fit is measured first.
        console: where it tells what it does.
        progress: whether to show the progress of each part.

    Raises:
        MissingExtraError: a package of `[train]` or `[export]` is not installed.
    """
    # Before anything is done: nobody should wait a minute for this message.
    for extra, modules in _NEEDED.items():
        for module in modules:
            require(module, extra=extra)
    start = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)

    console.print("1. The shipped classifier on 1,000 held-out images of Fashion-MNIST (28 x 28, ten classes)")
    shipped = classification.show_shipped_classifier(output, console=console, progress=progress)
    console.print(f"2. The shipped detector on {scenes.NUM_SCENES} scenes of held-out items: boxes and masks")
    detection = scenes.show_shipped_detector(output, console=console)
    console.print("3. The shipped segmenter on the same scenes: a class for each pixel")
    segmentation = scenes.show_shipped_segmenter(output, console=console)
    console.print("4. The shipped Mask2Former on the same scenes: each item by itself, and the ground")
    panoptic = scenes.show_shipped_panoptic(output, console=console)
    console.print("5. The shipped classifier as an ONNX file, which needs neither PyTorch nor this package")
    exported = export.show_export(output, console=console)
    console.print("6. A smaller classifier from scratch, on the 2,000 training images in the package")
    trained = classification.train_a_classifier(output, seconds=seconds, console=console, progress=progress)

    files = {name: output / file for name, file in {**classification.FILES, **scenes.FILES, **export.FILES}.items()}
    return DemoResult(
        shipped=shipped,
        detection=detection,
        segmentation=segmentation,
        panoptic=panoptic,
        exported=exported,
        trained=trained,
        files=files,
        seconds=time.monotonic() - start,
    )
