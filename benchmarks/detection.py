"""Mask R-CNN on Swin-T beside torchvision's own Mask R-CNN around the same backbone: one image of 800 x 1333 pixels.

    python benchmarks/detection.py

writes the figures, as JSON and as a table, to benchmarks/results/, named after the day. It takes about three minutes
on two cores; leave the machine alone meanwhile. Weights are random, so both are told to keep 100 detections whatever
their scores: the box and mask heads then have the work of a crowded image.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import multiprocessing
import statistics
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import swin_transformer_pytorch as swin
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.ops.padding import pad_batch
from swin_transformer_pytorch.ops.regions.masks import paste_masks

RESULTS = Path(__file__).parent / "results"
VARIANT = "mask_rcnn_swin_tiny_patch4_window7"
IMAGE_SIZE = (800, 1333)
ROUNDS = 7


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One library on one image: from normalised pixels to boxes, and masks laid on the image.

    Attributes:
        seconds: median of the rounds.
        ratio: our time over its, the median of the ratios round by round; below 1 we are faster.
        peak_bytes: a fresh process's memory at its peak above what it had before the first image.
        detections: how many it gave.
    """

    library: str
    seconds: float
    ratio: float
    peak_bytes: int
    detections: int


class Pyramid(nn.Module):
    """`create_backbone`'s maps as torchvision's detectors take them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = swin.create_backbone("swin_tiny_patch4_window7_224")
        self.fpn = FeaturePyramidNetwork(list(self.body.channels), 256, LastLevelMaxPool())
        self.out_channels = 256

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.fpn(OrderedDict((str(i), m) for i, m in enumerate(self.body(images))))
        return maps


def ours() -> Callable[[Tensor], int]:
    """Takes an image (3, H, W) and gives the number of detections."""
    model = swin.create_model(VARIANT, score_threshold=0.0).eval()

    def detect(image: Tensor) -> int:
        size = (image.shape[1], image.shape[2])
        with torch.inference_mode():
            (found,) = model(pad_batch([image], 32), [size])
            return len(paste_masks(found.masks, found.boxes_xyxy, size))

    return detect


def torchvisions() -> Callable[[Tensor], int]:
    """The same for torchvision's; it normalises, resizes (here by a factor of 1) and pads inside."""
    model = MaskRCNN(
        Pyramid(), num_classes=81, min_size=IMAGE_SIZE[0], max_size=IMAGE_SIZE[1], box_score_thresh=-1.0
    ).eval()

    def detect(image: Tensor) -> int:
        with torch.inference_mode():
            (found,) = model([image])
            return len(found["masks"] >= 0.5)

    return detect


LIBRARIES: dict[str, Callable[[], Callable[[Tensor], int]]] = {benchmark.OURS: ours, "torchvision": torchvisions}


def measure_peak(library: str) -> int:
    """Run in a process of its own: a process's peak never falls."""
    detect = LIBRARIES[library]()
    image = torch.rand(3, *IMAGE_SIZE)
    before = benchmark.process_memory("VmRSS")
    detect(image)
    detect(image)
    return benchmark.process_memory("VmHWM") - before


def measure() -> list[Figures]:
    """The libraries take turns in one process, so that noise meets both."""
    torch.manual_seed(0)
    detectors = {library: build() for library, build in LIBRARIES.items()}
    image = torch.rand(3, *IMAGE_SIZE)
    detections = {library: detect(image) for library, detect in detectors.items()}
    times = benchmark.alternate({name: lambda d=detect: d(image) for name, detect in detectors.items()}, ROUNDS)
    peaks = {}
    for library in LIBRARIES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[library] = pool.apply(measure_peak, (library,))
    return [
        Figures(
            library=library,
            seconds=statistics.median(times[library]),
            ratio=benchmark.median_ratio(times[benchmark.OURS], times[library]),
            peak_bytes=peaks[library],
            detections=detections[library],
        )
        for library in LIBRARIES
    ]


def main() -> None:
    figures = measure()
    report: dict[str, Any] = {
        "model": VARIANT,
        "image_size": IMAGE_SIZE,
        "rounds": ROUNDS,
        "processor": benchmark.processor_name(),
        "threads": torch.get_num_threads(),
        "versions": benchmark.library_versions(["torch", benchmark.OURS, "torchvision"]),
        "measurements": [dataclasses.asdict(one) for one in figures],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.date.today().isoformat()}-detection-cpu"
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(report, figures))
    print(f"{path}.json, {path}.md")


def markdown(report: dict[str, Any], figures: list[Figures]) -> str:
    """The figures as a table, with what they belong to."""
    lines = [
        f"{report['model']}, one image of {IMAGE_SIZE[0]} x {IMAGE_SIZE[1]} pixels, float32, random weights, "
        f"{report['processor']}, {report['threads']} threads, medians of {ROUNDS} rounds; "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + ". `ours / it`: the median of the ratios round by round; below 1 we are faster.",
        "",
        "| library | s | ours / it | peak memory above the start, MB | detections |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in figures:
        cells = [one.library, f"{one.seconds:.2f}", f"{one.ratio:.2f}", f"{one.peak_bytes / 1e6:.0f}"]
        lines.append(f"| {' | '.join([*cells, str(one.detections)])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
