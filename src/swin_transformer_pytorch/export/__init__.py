"""Models as files that run without this package."""

from __future__ import annotations

from .graph import ExportError
from .onnx import export_onnx
from .openvino import export_openvino
from .program import export_program
from .quantization import quantize

__all__ = ["ExportError", "export_onnx", "export_openvino", "export_program", "quantize"]
