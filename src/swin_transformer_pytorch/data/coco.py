"""Data sets of detection in COCO's format."""

from __future__ import annotations

from .samples import DetectionSample

__all__ = ["DetectionSample"]
