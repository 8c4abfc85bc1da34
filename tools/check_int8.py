"""Quantises models and measures what 8 bits cost and gain; the table is in docs/guide/export.md.

    python tools/check_int8.py [NAME ...]

256 training images calibrate; all 1,000 test images of the Fashion-MNIST sample, or 400 scenes of test images, are
compared on. Times are of one image, float and 8-bit file in turn: the least of each, and the median of their ratios. Of
a large model, with random weights and images, nothing else means anything. It ends with 1 where calibrated 8 bits cost
the Fashion-MNIST classifier more than 0.3 points of top-1.
Needs the `export` extra; some minutes a model.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.commands.export_int8 import file_size
from swin_transformer_pytorch.data.classification.fashion import ArrayDataset, FashionSample
from swin_transformer_pytorch.data.images.unusable import Unusable
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.segmentation.dataset import SceneLabelMaps
from swin_transformer_pytorch.evaluation.report import percent
from swin_transformer_pytorch.export.agreement import agreement
from swin_transformer_pytorch.export.quantization import Inputs, Method, load_exported, quantize
from swin_transformer_pytorch.models.registry import SHIPPED

CALIBRATION, SCENES, ROUNDS, RUNS = 320, 400, 15, 8
LARGEST_LOSS = 0.003 + 1e-9  # of top-1
FORMS: tuple[tuple[str, str, Method], ...] = (
    ("ONNX Runtime, static", ".onnx", "static"),
    ("ONNX Runtime, dynamic", ".onnx", "dynamic"),
    ("OpenVINO (NNCF)", ".xml", "static"),
)


def fashion() -> tuple[Any, Any]:
    train = FashionSample("train")
    return ArrayDataset(train.images[::6], train.labels[::6], train.classes), FashionSample("test")


def scenes(make: Callable[[Any], Any]) -> tuple[Any, Any]:
    train = open_scenes("scenes_sample", "train", num_scenes=CALIBRATION)
    return make(train), make(open_scenes("scenes_sample", "val", num_scenes=SCENES))


def noise() -> tuple[Any, Any]:
    images = list(np.random.default_rng(0).integers(256, size=(12, 224, 224, 3), dtype=np.uint8))
    return images, images


DATA: dict[str, Callable[[], tuple[Any, Any]]] = {
    "fashion": fashion,
    "scenes_segmentation": lambda: scenes(SceneLabelMaps),
    "scenes_detection": lambda: scenes(lambda made: made),
    "swin_tiny_patch4_window7_224": noise,
}


def milliseconds(source: Path, made: Path, samples: Any) -> tuple[float, float, float]:
    """The least time of one image by either file, and the median of the second's over the first's."""
    arrays = next(iter(Inputs(load_exported(source), samples, [0], Unusable(len(samples), "images"))))
    inputs = {name: torch.from_numpy(one) for name, one in arrays.items()}
    files = [load_exported(path).file for path in (source, made)]
    rounds = []
    for _ in range(ROUNDS):
        times = []
        for file in files:
            start = time.perf_counter()
            for _ in range(RUNS):
                file.run(inputs, file.description["outputs"])
            times.append(1000 * (time.perf_counter() - start) / RUNS)
        rounds.append(times)
    least = [min(times) for times in zip(*rounds, strict=True)]
    return least[0], least[1], median(after / before for before, after in rounds)


def check(name: str, folder: Path) -> bool:
    """Prints the model's lines of the table. Whether it is as good as it should be."""
    good = True
    model = swin.load_model(name) if name in SHIPPED else swin.create_model(name)
    train, test = DATA[name]()
    sources = {".onnx": swin.export_onnx(model, folder / f"{name}.onnx")}
    sources[".xml"] = swin.export_openvino(model, folder / f"{name}.xml")
    for form, suffix, method in FORMS:
        source, made = sources[suffix], folder / f"int8{suffix}"
        quantize(source, made, train, method=method)
        models = load_exported(source), load_exported(made)
        result = agreement(*models, test, range(len(test)), Unusable(len(test), "images"))
        shares = ", ".join(f"{what} {share:.1%}" for what, share in result.shares.items())
        if name not in SHIPPED:
            shares = "(random weights)"
        scores = ", ".join(
            f"{what} {percent(one)} → {percent(other)}" for what, (one, other) in result.measured.items()
        )
        before, after, ratio = milliseconds(source, made, test)
        sizes = f"{file_size(source) / 1e6:.1f} → {file_size(made) / 1e6:.1f} MB"
        print(
            f"| {name} | {form} | {sizes} | {shares} | {scores} | {before:.1f} → {after:.1f} ms | {ratio:.2f} |",
            flush=True,
        )
        if name == "fashion" and method == "static":
            float_top1, int8_top1 = result.measured["top-1"]
            good = good and (int8_top1 or 0.0) >= (float_top1 or 0.0) - LARGEST_LOSS
    return good


def main() -> None:
    packages = ("torch", "onnxruntime", "openvino", "nncf")
    print(", ".join(f"{name} {metadata.version(name)}" for name in packages), f"on {platform.machine()}", flush=True)
    good = True
    for name in sys.argv[1:] or DATA:
        with tempfile.TemporaryDirectory() as folder:
            good = check(name, Path(folder)) and good
    sys.exit(int(not good))


if __name__ == "__main__":
    main()
