"""Models as files that run without this package."""

from __future__ import annotations

from .aoti import export_aoti
from .graph import ExportError
from .onnx import export_onnx
from .program import export_program

__all__ = ["ExportError", "export_aoti", "export_onnx", "export_program"]
