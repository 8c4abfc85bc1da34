"""`export_onnx`: one ONNX file for every batch and image size, compared with its model before it is put in place."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import extras
from ..models.backbone import SwinBackbone
from ..models.description import describe
from ..sizes import Size
from ..weights.whole import replacing
from .graph import ExportError, Graph, prepare

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

METADATA = "swin_transformer_pytorch"
"""The key of the file's metadata under which its description is, as JSON."""
OPSET = 20
TOLERANCE = 1e-4


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    image_size: int | Size | None = None,
    *,
    byte_input: bool = False,
    opset: int = OPSET,
) -> Path:
    """Writes a model as an ONNX file, and what it is to a JSON file of the same name beside it.

    The file takes `images` and gives `logits`, or a backbone's `map0`, `map1`, ... Before it is put in place it is run
    by ONNX Runtime at several image sizes and batches, and its outputs are compared with the model's. A minute or two
    for Swin-T.

    Args:
        model: a classifier, segmenter or backbone, in float32; it stays as it is.
        path: the file to write, ending in .onnx.
        image_size: pixels (height, width), an int for a square, as the only size of the file: without arithmetic on
            sizes, for targets that want none (TensorRT, Core ML, WebGPU). None for any size from 1 x 1 on.
        byte_input: let `images` be bytes, (batch, height, width, channels), that the file normalises by the model's
            preprocessing; else they are normalised, (batch, channels, height, width) in float32.
        opset: of ONNX's operators, at least 18.

    Raises:
        ExportError: the model cannot be exported, or the file's outputs differ from the model's by more than 1e-4 of
            the largest; no file is left then.
        MissingExtraError: the packages of `[export]` are not installed.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        extras.require(package, extra="export")
    target = Path(path)
    if target.suffix != ".onnx":
        raise ExportError(f"{target} must end in .onnx")
    if not target.parent.is_dir():
        raise ExportError(f"{target.parent} is not a folder: make it, or choose another place for {target.name}")
    if not 18 <= opset <= 23:
        raise ExportError(f"opset={opset} is not possible: use 18 to 23, such as {OPSET}")
    graph = prepare(model, image_size, byte_input=byte_input)
    description = _describe(model, graph)
    with replacing(target) as temporary:
        with _quiet():
            program = torch.onnx.export(
                graph.trace(),
                dynamo=True,
                input_names=["images"],
                output_names=list(graph.outputs),
                opset_version=opset,
                verbose=False,
            )
            assert program is not None, "of dynamo's exporter"
            _name_axes(program.model, graph)
            program.model.metadata_props[METADATA] = json.dumps(description)
            program.save(temporary)
        compare(temporary, model, graph)
    with replacing(target.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return target


def compare(path: Path, model: nn.Module, graph: Graph) -> None:
    """Runs a file by ONNX Runtime at several sizes and batches.

    Raises:
        ExportError: an output is not the model's.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for size in [graph.image_size] if graph.image_size else sizes_to_compare(model):
        for batch in (1, 2):
            images = graph.example(size, batch, seed=batch)
            with torch.no_grad():
                expected = graph.original(images)
            for name, got, wanted in zip(graph.outputs, run(session, images), expected, strict=True):
                error = _error(torch.from_numpy(got), wanted)
                if not error <= TOLERANCE:
                    raise ExportError(
                        f"the exported {name} differ from the model's by {error:.1e} of the largest value, for {batch} "
                        f"image(s) of {size[0]} x {size[1]} pixels: please report it, with the versions that "
                        "`swin doctor` shows"
                    )


def run(session: InferenceSession, images: Tensor) -> list[np.ndarray[Any, Any]]:
    """The outputs of an ONNX Runtime session."""
    outputs: list[np.ndarray[Any, Any]] = session.run(None, {"images": images.numpy()})
    return outputs


def sizes_to_compare(model: Any) -> list[Size]:
    """Image sizes that differ in how windows fit: one pixel, below a window, oblong, and above one."""
    config = model.config.backbone if hasattr(model.config, "backbone") else model.config
    height, width = (patch * window for patch, window in zip(config.patch_size, config.window_size, strict=True))
    return [(1, 1), (height // 2 + 1, width - 1), (height - 1, 3 * width + 1), (2 * height + 1, 2 * width)]


def _error(got: Tensor, expected: Tensor) -> float:
    """The largest difference, over the largest value."""
    if got.shape != expected.shape:
        return float("inf")
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def _describe(model: Any, graph: Graph) -> dict[str, Any]:
    """What the file is, in plain types."""
    from .. import __version__

    if isinstance(model, SwinBackbone):
        described = {"task": model.task, "name": model.name, "config": model.config.to_dict()}
    else:
        described = describe(model).to_dict()
    images = ["batch", "height", "width", "channels"] if graph.byte_input else ["batch", "channels", "height", "width"]
    return {
        **described,
        "version": __version__,
        "input": {"images": images, "type": "uint8" if graph.byte_input else "float32"},
        "image_size": list(graph.image_size) if graph.image_size else None,
        "outputs": list(graph.outputs),
    }


def _name_axes(model: Any, graph: Graph) -> None:
    """Axes of inputs and outputs by what they are, rather than by the tracer's symbols."""
    import onnx_ir

    (images,) = model.graph.inputs
    axes = ("batch", "height", "width", "channels") if graph.byte_input else ("batch", "channels", "height", "width")
    images.shape = onnx_ir.Shape(
        [size if isinstance(size, int) else name for size, name in zip(images.shape, axes, strict=True)]
    )
    for output in model.graph.outputs:
        names = ("batch", "classes") if len(output.shape) == 2 else ("batch", "channels", "height", "width")
        output.shape = onnx_ir.Shape(
            [
                size if isinstance(size, int) else name if name == "batch" else f"{output.name}_{name}"
                for size, name in zip(output.shape, names, strict=True)
            ]
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what exporters say about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
