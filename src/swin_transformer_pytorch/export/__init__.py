"""Models as files that run without this package."""

from __future__ import annotations

from .graph import ExportError
from .onnx import export_onnx

__all__ = ["ExportError", "export_onnx"]
