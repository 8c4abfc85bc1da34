"""`export_onnx`: one ONNX file for every batch and image size, compared with its model before it is put in place."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import extras
from ..sizes import Size
from .comparison import Run, compare
from .detection import PARTS, THRESHOLD
from .files import check_target, described
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
    split: bool = False,
    opset: int = OPSET,
) -> Path:
    """Writes a model as an ONNX file, and what it is to a JSON file of the same name beside it.

    The file takes `images` and gives `logits`, or a backbone's `map0`, `map1`, ... A detector's takes one image, not
    padded, and `scale_factor`, (4,): x, y, x, y, resized over original side; it gives the image's objects, best first:
    `boxes` (n, 4) in pixels of the original, `scores`, `labels`, and `masks` (n, 28, 28), probabilities on a grid over
    each box. A Mask2Former's gives `class_logits` (batch, queries, classes + 1) and `mask_logits` (batch, queries,
    height / 4, width / 4). Before a file is put in place it is run by ONNX Runtime at several image sizes and batches,
    and its outputs are compared with the model's. Swin-T takes half a minute, a detector some minutes.

    Args:
        model: a classifier, detector, segmenter, Mask2Former or backbone, in float32; it stays as it is.
        path: the file to write, ending in .onnx.
        image_size: pixels (height, width), an int for a square, as the only size that the file takes: it then does no
            arithmetic on sizes, which TensorRT, Core ML and WebGPU want. None for any size from 1 x 1 on.
        batch_size: the only number of images that the file takes at once. None for any, or 1 with an `image_size`.
        byte_input: let `images` be uint8, (batch, height, width, channels), which the file normalises as the model's
            preprocessing says; otherwise they are float32, (batch, channels, height, width), normalised.
        split: a detector as two files, NAME.network.onnx and NAME.objects.onnx for a path NAME.onnx. The network takes
            `images` and gives `map0`, ..., HTC's `semantics`, `rpn_logits` and `rpn_deltas`; the other takes these of
            one image, `image_size` (2,), int64: pixels (height, width) before any padding, and `scale_factor`.
            `image_size` and `batch_size` are the network's; the objects' file is for every size.
        opset: of ONNX's operators, 18 to 23.

    Returns:
        The path; with `split` the network's.

    Raises:
        ExportError: the model cannot be exported, or an output of the file differs from the model's by more than 1e-4
            of the largest value; no file is left then.
        MissingExtraError: the packages of `[export]` are not installed.
    """
    require_packages()
    target = check_target(path, ".onnx")
    if opset not in _OPSETS:
        raise ExportError(f"opset={opset} is not possible: use {_OPSETS[0]} to {_OPSETS[-1]}, such as {OPSET}")
    prepared = partial(prepare, model, image_size, batch_size=batch_size, byte_input=byte_input)
    files = onnx_files(target, split=split)
    graphs = [prepared(part=part) for part in PARTS] if split else [prepared()]
    with ExitStack() as all_or_none:
        for file, graph in zip(files, graphs, strict=True):
            (temporary,) = all_or_none.enter_context(described(file, graph.description))
            write_onnx(temporary, graph, opset)
    return files[0]


def require_packages() -> None:
    """A `MissingExtraError` where those that write and run ONNX files are not installed."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        extras.require(package, extra="export")


def onnx_files(target: Path, *, split: bool) -> list[Path]:
    """The ONNX files that `export_onnx` writes for a path."""
    return [target.with_suffix(f".{part}.onnx") for part in PARTS] if split else [target]


def write_onnx(path: Path, graph: Graph, opset: int = OPSET) -> None:
    """Writes a graph and compares the file with its model; an `ExportError` where it differs."""
    with quiet():
        program = torch.onnx.export(
            graph.trace(),
            dynamo=True,
            input_names=list(graph.form.inputs),
            output_names=list(graph.outputs),
            opset_version=opset,
            verbose=False,
        )
        assert program is not None, "dynamo's exporter gives one"
        _name_axes(program.model, graph)
        program.model.metadata_props[METADATA] = json.dumps(graph.description)
        program.save(path)
    compare(partial(start_session, path), graph)


def start_session(path: Path, threshold: float | None = None) -> Run:
    """What runs the file, a detector's with another score threshold if one is given: inputs -> outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no hints
    if threshold is not None:
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.array(threshold, dtype=np.float32))
        options.add_initializer(THRESHOLD, value)
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, given)]

    return run


def _name_axes(model: Any, graph: Graph) -> None:
    """Axes of inputs and outputs by what they are, rather than by the tracer's symbols, and the score threshold."""
    import onnx_ir

    for value in (*model.graph.inputs, *model.graph.outputs):
        axes = graph.axes(value.name, len(value.shape))
        value.shape = onnx_ir.Shape(
            [size if isinstance(size, int) else name for size, name in zip(value.shape, axes, strict=True)]
        )
    for name, value in list(model.graph.initializers.items()):
        if name.endswith(THRESHOLD):
            value.name = THRESHOLD
