"""Rows of results, one an image, as `swin predict` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import Classification, Detections, PanopticSegmentation, SegmentationMap


def row_of(
    path: str, result: Classification | Detections | PanopticSegmentation | SegmentationMap | Exception
) -> dict[str, Any]:
    """An image's row: its path, and what was found, or the "error" that says why it could not be used."""
    return {"path": path} | ({"error": str(result)} if isinstance(result, Exception) else result.to_dict())


def json_line(row: Mapping[str, Any]) -> str:
    """Names that are no UTF-8 as escapes of Python's `surrogateescape`, which `os.fsencode` turns back."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(row) + "\n"
    return line
