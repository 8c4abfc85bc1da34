"""OpenVINO running timm's model, exported to ONNX: how fast a compiler of whole graphs is on the same CPU."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from .. import extras
from ..models.runtimes import openvino_core, openvino_options
from .libraries import build_model
from .setting import Setting

_log = logging.getLogger(__name__)
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def openvino_step(setting: Setting) -> Callable[[], object] | None:
    """One inference of the whole batch; None where OpenVINO, timm, or this precision is not to be had.

    It gets as many threads as PyTorch has, all of them for one request, and a graph for this batch and image size.
    """
    if setting.mode != "inference" or setting.dtype not in _PRECISIONS:
        return None
    try:
        for package in ("onnx", "onnxscript"):  # the exporter asks for them
            extras.require(package, extra="export")
        core = openvino_core()
    except extras.MissingExtraError:
        return None
    if setting.dtype == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        _log.warning("OpenVINO is left out of bfloat16: on this processor it would compute in float32")
        return None
    model = build_model("timm", setting)
    if model is None:
        return None
    images = torch.randn(setting.batch_size, 3, *setting.image_size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's remarks on its own dependencies
            torch.onnx.export(model.eval(), (images,), path, dynamo=True, verbose=False)
        compiled = core.compile_model(path, "CPU", openvino_options(_PRECISIONS[setting.dtype]))
    request = compiled.create_infer_request()
    pixels = images.numpy()

    def step() -> object:
        return request.infer({0: pixels}, share_inputs=True, share_outputs=True)

    return step
