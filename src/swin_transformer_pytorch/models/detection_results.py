"""What a detector's predictions become for a user, where prediction and training find it."""

from __future__ import annotations

from ..heads.detections import instances_to_detections

__all__ = ["instances_to_detections"]
