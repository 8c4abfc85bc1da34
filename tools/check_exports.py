"""Exports full-sized models for any image size and compares the files with them; the table is in docs/guide/export.md.

    python tools/check_exports.py [NAME ...]

Random weights that leave nothing at its initial 0 or 1. Each file goes through onnx.checker, then through ONNX Runtime,
and OpenVINO where it is installed, at 12 image sizes with batches of 1, 2 and 5. Needs the `export` extra; some minutes
and 2 GB a model.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

import swin_transformer_pytorch as swin
from swin_transformer_pytorch import extras
from swin_transformer_pytorch.export.comparison import relative_error

SIZES = (
    (1, 1),
    (5, 9),
    (27, 28),
    (28, 28),
    (29, 33),
    (64, 64),
    (97, 33),
    (27, 300),
    (224, 224),
    (225, 191),
    (333, 500),
    (1000, 64),
)
BATCHES = (1, 2, 5)
MODELS: dict[str, Callable[[], nn.Module]] = {
    "swin_tiny_patch4_window7_224": lambda: swin.create_model("swin_tiny_patch4_window7_224"),
    "swinv2_tiny_patch4_window8_256": lambda: swin.create_model("swinv2_tiny_patch4_window8_256"),
    "swinv2_tiny_patch4_window16_256, pretrained windows": lambda: swin.create_model(
        "swinv2_tiny_patch4_window16_256", pretrained_window_sizes=(12, 12, 12, 6)
    ),
    "backbone of swin_tiny_patch4_window7_224": lambda: swin.create_backbone("swin_tiny_patch4_window7_224"),
    "upernet_swin_tiny_patch4_window7_512x512": lambda: swin.create_model("upernet_swin_tiny_patch4_window7_512x512"),
}


def randomised(model: nn.Module) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim <= 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def runners(path: Path) -> dict[str, Callable[[Tensor], list[Tensor]]]:
    """What runs a file: images -> outputs."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: dict[str, Callable[[Tensor], list[Tensor]]] = {
        "ONNX Runtime": lambda images: [torch.from_numpy(out) for out in session.run(None, {"images": images.numpy()})]
    }
    if util.find_spec("openvino"):
        openvino = extras.require("openvino", extra="export")
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found["OpenVINO"] = lambda images: [
            torch.from_numpy(np.array(out)) for out in compiled(images.numpy()).values()
        ]
    return found


def check(name: str, folder: Path) -> str:
    """A line of the table."""
    model = randomised(MODELS[name]())
    start = time.perf_counter()
    path = swin.export_onnx(model, folder / "model.onnx")
    seconds = time.perf_counter() - start
    onnx.checker.check_model(str(path))
    worst = dict.fromkeys(running := runners(path), 0.0)
    for size in SIZES:
        for batch in BATCHES:
            images = torch.randn(batch, 3, *size)
            with torch.inference_mode():
                expected = model(images)
            for runner, run in running.items():
                for got, wanted in zip(run(images), [expected] if torch.is_tensor(expected) else expected, strict=True):
                    worst[runner] = max(worst[runner], relative_error(got, wanted))
    errors = " | ".join(f"{worst[runner]:.0e}" if runner in worst else "-" for runner in ("ONNX Runtime", "OpenVINO"))
    nodes = len(onnx.load(str(path)).graph.node)
    return f"| {name} | {path.stat().st_size / 1e6:.0f} MB | {nodes:,} | {seconds:.0f} s | {errors} |"


def main() -> None:
    packages = [name for name in ("torch", "onnx", "onnxscript", "onnxruntime", "openvino") if util.find_spec(name)]
    print(", ".join(f"{name} {metadata.version(name)}" for name in packages), f"on {platform.machine()}", flush=True)
    for name in sys.argv[1:] or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            print(check(name, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
