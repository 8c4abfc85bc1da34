"""`export_onnx`: one ONNX file for every batch and image size, compared with its model before it is put in place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import extras
from ..sizes import Size
from ..whole import replacing
from .comparison import compare
from .graph import METADATA, ExportError, Graph, prepare, quiet

OPSET = 20
_OPSETS = range(18, 24)


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    image_size: int | Size | None = None,
    *,
    batch_size: int | None = None,
    byte_input: bool = False,
    opset: int = OPSET,
) -> Path:
    """Writes a model as an ONNX file, and what it is to a JSON file of the same name beside it.

    The file takes `images` and gives `logits`, or a backbone's `map0`, `map1`, ... Before it is put in place it is run
    by ONNX Runtime at several image sizes and batches, and its outputs are compared with the model's. Swin-T takes half
    a minute.

    Args:
        model: a classifier, segmenter or backbone, in float32; it stays as it is.
        path: the file to write, ending in .onnx.
        image_size: pixels (height, width), an int for a square, as the only size that the file takes: it then does no
            arithmetic on sizes, which TensorRT, Core ML and WebGPU want. None for any size from 1 x 1 on.
        batch_size: the only number of images that the file takes at once. None for any, or 1 with an `image_size`.
        byte_input: let `images` be uint8, (batch, height, width, channels), which the file normalises as the model's
            preprocessing says; otherwise they are float32, (batch, channels, height, width), normalised.
        opset: of ONNX's operators, 18 to 23.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be exported, or an output of the file differs from the model's by more than 1e-4
            of the largest value; no file is left then.
        MissingExtraError: the packages of `[export]` are not installed.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        extras.require(package, extra="export")
    target = check_target(path, ".onnx")
    if opset not in _OPSETS:
        raise ExportError(f"opset={opset} is not possible: use {_OPSETS[0]} to {_OPSETS[-1]}, such as {OPSET}")
    graph = prepare(model, image_size, batch_size=batch_size, byte_input=byte_input)
    with replacing(target) as temporary:
        with quiet():
            program = torch.onnx.export(
                graph.trace(),
                dynamo=True,
                input_names=["images"],
                output_names=list(graph.outputs),
                opset_version=opset,
                verbose=False,
            )
            assert program is not None, "dynamo's exporter gives one"
            _name_axes(program.model, graph)
            program.model.metadata_props[METADATA] = json.dumps(graph.description)
            program.save(temporary)
        compare(_session(temporary), graph)
    with replacing(target.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(graph.description, indent=2) + "\n", encoding="utf-8")
    return target


def check_target(path: str | os.PathLike[str], suffix: str) -> Path:
    """The path; an `ExportError` where it has another suffix or no folder."""
    target = Path(path)
    if target.suffix != suffix:
        raise ExportError(f"{target} must end in {suffix}")
    if not target.parent.is_dir():
        raise ExportError(f"{target.parent} is not a folder: make it, or choose another place for {target.name}")
    return target


def _session(path: Path) -> Any:
    """What runs the file: images -> outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {"images": images.numpy()})]

    return run


def _name_axes(model: Any, graph: Graph) -> None:
    """Axes of inputs and outputs by what they are, rather than by the tracer's symbols."""
    import onnx_ir

    (images,) = model.graph.inputs
    axes = graph.axes
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
