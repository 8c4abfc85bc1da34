"""Exports full-sized models for any image size and compares the files with them; the table is in docs/guide/export.md.

    python tools/check_exports.py [NAME ...]

Random weights that leave nothing at its initial 0 or 1. Each file goes through onnx.checker, then through ONNX Runtime,
and OpenVINO where it is installed, at 12 image sizes with batches of 1, 2 and 5. A detector finds none, some and as
many objects as it may, at 5 score thresholds: "differing" are those without their like, by
rounding of overlaps or scores. `scenes_detection` is the detector in the package, through Predictor, in 100 of its
scenes. It ends with 1 where a file differs by more than 1e-4 of the largest value, or an object in fifty has no like.
Needs the `export` extra; some minutes and 2 GB a model.
"""

from __future__ import annotations

import functools
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
import torch
from torch import nn

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.export.comparison import TOLERANCE, matched, relative_error, telling_thresholds
from swin_transformer_pytorch.export.detection import set_threshold
from swin_transformer_pytorch.export.graph import prepare
from swin_transformer_pytorch.export.onnx import start_session
from swin_transformer_pytorch.export.openvino import start_openvino

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
SCENES = "scenes_detection"
MODELS: dict[str, Callable[[], nn.Module]] = {
    "swin_tiny_patch4_window7_224": lambda: swin.create_model("swin_tiny_patch4_window7_224"),
    "swinv2_tiny_patch4_window8_256": lambda: swin.create_model("swinv2_tiny_patch4_window8_256"),
    "swinv2_tiny_patch4_window16_256, pretrained windows": lambda: swin.create_model(
        "swinv2_tiny_patch4_window16_256", pretrained_window_sizes=(12, 12, 12, 6)
    ),
    **{
        f"V{version}, 5 channels, 7 classes, patches 2 x 3, windows 5 x 9, 1 and 3 blocks": functools.partial(
            swin.create_model,
            name,
            in_channels=5,
            num_classes=7,
            patch_size=(2, 3),
            window_size=(5, 9),
            depths=(1, 3),
            num_heads=(3, 6),
            pretrained_window_sizes=(),
        )
        for version, name in ((1, "swin_tiny_patch4_window7_224"), (2, "swinv2_tiny_patch4_window8_256"))
    },
    "backbone of swin_tiny_patch4_window7_224": lambda: swin.create_backbone("swin_tiny_patch4_window7_224"),
    "upernet_swin_tiny_patch4_window7_512x512": lambda: swin.create_model("upernet_swin_tiny_patch4_window7_512x512"),
    **{
        name: functools.partial(swin.create_model, name)
        for name in (f"{method}_swin_tiny_patch4_window7" for method in ("mask_rcnn", "cascade_mask_rcnn", "htc"))
    },
}


def randomised(model: nn.Module) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim <= 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            if any(layer in name for layer in ("fc_cls", "fc_reg", "rpn_cls", "rpn_reg")):
                parameter.mul_(3)  # otherwise all objects score nearly the same
    return model.eval()


RUNTIMES: dict[str, Callable[..., Any]] = {
    "ONNX Runtime": start_session,
    **({"OpenVINO": start_openvino} if util.find_spec("openvino") else {}),
}


def check(name: str, folder: Path, *, split: bool = False) -> tuple[str, bool]:
    """A line of the table, and whether all is well; of a detector's network alone if `split`."""
    model = randomised(MODELS[name]())
    start = time.perf_counter()
    path = swin.export_onnx(model, folder / "model.onnx", split=split)
    seconds = time.perf_counter() - start
    onnx.checker.check_model(str(path))
    worst = dict.fromkeys(RUNTIMES, 0.0)
    running = {runner: start(path) for runner, start in RUNTIMES.items()}
    graph = prepare(model, part="network" if split else None)
    objects = differing = 0
    for size in SIZES:
        for batch in (graph.batch_size,) if graph.batch_size else BATCHES:
            inputs = graph.example(size, batch)
            for runner, run in running.items():
                # None, three numbers of objects, and as many as it may give.
                for threshold in telling_thresholds(graph, inputs, (2, 10, 30)) if graph.finds_objects else [None]:
                    set_threshold(graph.original.model, threshold) if threshold is not None else None
                    moved = run if threshold is None else RUNTIMES[runner](path, threshold=threshold)
                    with torch.no_grad():
                        got, expected = moved(*inputs), graph.original(*inputs)
                    if graph.finds_objects:
                        missing = objects_apart(got, expected)
                        objects, differing = objects + len(expected[1]), differing + missing
                        if missing > 0 and missing >= min(len(got[1]), len(expected[1])):
                            continue  # none is alike; they are counted
                        got, expected = matched(got, expected, spare=missing)
                    for one, wanted in zip(got, expected, strict=True):
                        worst[runner] = max(worst[runner], relative_error(one, wanted))
    errors = " | ".join(f"{worst[runner]:.0e}" if runner in worst else "-" for runner in ("ONNX Runtime", "OpenVINO"))
    nodes = len(onnx.load(str(path)).graph.node)
    counted = f" {objects:,} objects, {differing} differing" if graph.finds_objects else ""
    title = f"network of {name}" if split else name
    line = f"| {title} | {path.stat().st_size / 1e6:.0f} MB | {nodes:,} | {seconds:.0f} s | {errors} |{counted}"
    return line, max(worst.values()) <= TOLERANCE and differing <= objects / 50


def check_scenes(folder: Path) -> tuple[str, bool]:
    """How the shipped detector's files do in scenes, and whether all is well."""
    scenes, model = open_scenes("scenes_sample", "val", num_scenes=100), swin.load_model("scenes_detection")
    swin.export_onnx(model, folder / "scenes.onnx")
    swin.export_openvino(model, folder / "scenes.xml")
    images: list[Any] = [scenes[index].image for index in range(len(scenes))]
    wanted = swin.Predictor(model, device="cpu")(images)
    lines = [f"{SCENES} in {len(images)} scenes: {sum(map(len, wanted)):,} objects"]
    same = True
    for form in ("onnx", "xml"):
        got = swin.Predictor(folder / f"scenes.{form}", device="cpu")(images)
        same = same and all(list(one.labels) == list(other.labels) for one, other in zip(got, wanted, strict=True))
        if same:
            pairs = list(zip(got, wanted, strict=True))
            pixels, points = (
                max(np.abs(getattr(one, of) - getattr(other, of)).max(initial=0) for one, other in pairs)
                for of in ("boxes_xyxy", "scores")
            )
            same = pixels < 0.01 and points < TOLERANCE
            lines.append(f"{form}: labels equal, boxes within {pixels:.0e} pixels, scores within {points:.0e}")
        else:
            lines.append(f"{form}: {sum(map(len, got)):,} objects, or other labels")
    return "; ".join(lines), same


def objects_apart(got: Any, expected: Any) -> int:
    """How many objects have no like on the other side."""
    for spare in range(len(expected[1]) + 1):
        pairs = zip(*matched(got, expected, spare=spare), strict=True)
        if all(relative_error(one, wanted) <= TOLERANCE for one, wanted in pairs):
            return spare
    return max(len(got[1]), len(expected[1]))


def main() -> None:
    packages = [name for name in ("torch", "onnx", "onnxscript", "onnxruntime", "openvino") if util.find_spec(name)]
    print(", ".join(f"{name} {metadata.version(name)}" for name in packages), f"on {platform.machine()}", flush=True)
    wrong = False
    for name in sys.argv[1:] or (*MODELS, SCENES):
        with tempfile.TemporaryDirectory() as folder:
            checks = [functools.partial(check, name)] if name in MODELS else [check_scenes]
            checks += [functools.partial(check, name, split=True)] if name in swin.list_models("detection") else []
            for one in checks:
                line, right = one(Path(folder))
                wrong = wrong or not right
                print(line if right else f"{line} WRONG", flush=True)
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
