"""`export_openvino`: a model in OpenVINO's own form."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import extras
from ..models.runtimes import openvino_core
from ..sizes import Size
from .comparison import Run, compare
from .detection import THRESHOLD
from .files import check_target, described
from .graph import METADATA, ExportError, prepare
from .onnx import require_packages, write_onnx


def export_openvino(
    model: nn.Module,
    path: str | os.PathLike[str],
    image_size: int | Size | None = None,
    *,
    batch_size: int | None = None,
    byte_input: bool = False,
) -> Path:
    """Writes a model as OpenVINO's .xml, with its weights in .bin and what it is in .json beside it.

    Weights stay in float32. It is made of `export_onnx`'s, and compared with the model once more, in OpenVINO.
    What the model is lies in it as rt_info, too. As `export_onnx` otherwise.

    Raises:
        ExportError: as `export_onnx`. None of the three files is left then.
    """
    core = openvino_core()
    require_packages()
    target = check_target(path, ".xml")
    graph = prepare(model, image_size, batch_size=batch_size, byte_input=byte_input)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        write_onnx(source, graph)
        converted = core.read_model(source)
        with openvino_files(target, converted, graph.description) as (xml, weights):
            compare(partial(start_openvino, xml, weights), graph)
    return target


@contextmanager
def openvino_files(target: Path, model: Any, description: dict[str, Any]) -> Iterator[tuple[Path, Path]]:
    """Writes a model beside its .xml and .bin, and puts these and its .json in place together, the .xml last."""
    with described(target, description, ".bin") as (xml, weights):
        if "framework" in model.rt_info:  # the description of the file that it was made of
            del model.rt_info["framework"]
        model.set_rt_info(json.dumps(description), METADATA)
        serialize(model, xml, weights)
        yield xml, weights


def serialize(model: Any, xml: Path, weights: Path) -> None:
    """Writes a model's two files. An `ExportError` where the disk is full."""
    try:
        extras.require("openvino", extra="export").serialize(model, xml, weights)
    except RuntimeError as error:  # without the system's reason
        raise ExportError(f"{xml} cannot be written: is there room for it on the disk? ({error})") from error


def start_openvino(path: Path, weights: Path | None = None, threshold: float | None = None) -> Run:
    """What runs a file, .xml or .onnx, in float32, a detector's at another score threshold if one is given."""
    openvino = extras.require("openvino", extra="export")
    core = openvino_core()
    model = core.read_model(path, weights or "")
    if threshold is not None:
        (own,) = (one for one in model.get_ops() if one.get_friendly_name() == THRESHOLD)
        own.output(0).replace(openvino.opset13.constant(np.float32(threshold)).output(0))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(*inputs: Tensor) -> list[Tensor]:
        outputs = compiled([one.numpy() for one in inputs]).values()
        return [torch.from_numpy(np.array(output)) for output in outputs]  # the request keeps its own

    return run
