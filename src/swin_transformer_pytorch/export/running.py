"""Exported files in the runtimes that they are for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import extras
from .graph import METADATA, ExportError

Run = Callable[..., list[Tensor]]
"""The inputs of a file -> its outputs."""


def runner(path: Path, weights: Path | None = None) -> Run:
    """What runs a file on the CPU, by ONNX Runtime or OpenVINO, in float32 where it is not of 8 bits.

    Args:
        path: the file, .onnx or .xml.
        weights: an .xml's .bin where it has another name.
    """
    if path.suffix == ".xml":
        openvino = extras.require("openvino", extra="export")
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(path, weights or path.with_suffix(".bin")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        # What it gives is only lent.
        return lambda *inputs: [
            torch.from_numpy(np.array(output)) for output in compiled([one.numpy() for one in inputs]).values()
        ]
    onnxruntime = extras.require("onnxruntime", extra="export")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return lambda *inputs: [
        torch.from_numpy(output)
        for output in session.run(None, {name: one.numpy() for name, one in zip(names, inputs, strict=True)})
    ]


def read_description(path: Path) -> dict[str, Any]:
    """What a file says that it is.

    Raises:
        ExportError: it says nothing, or is none.
    """
    try:
        if path.suffix == ".xml":
            model = extras.require("openvino", extra="export").Core().read_model(path)
            text = model.get_rt_info(METADATA).astype(str)
        else:
            onnx = extras.require("onnx", extra="export")
            text = {one.key: one.value for one in onnx.load(path, load_external_data=False).metadata_props}[METADATA]
    except OSError:
        raise
    except Exception as error:  # each library has some of its own for what is no file of its form
        raise ExportError(
            f"{path} is no file of this package's: give one that export_onnx or export_openvino wrote"
        ) from error
    description: dict[str, Any] = json.loads(text)
    return description
