"""Models as files that run without this package."""

from __future__ import annotations

from .aoti import export_aoti
from .graph import ExportError
from .onnx import export_onnx
from .openvino import export_openvino
from .program import export_program
from .quantization import quantize

__all__ = ["ExportError", "export_aoti", "export_onnx", "export_openvino", "export_program", "quantize"]
