"""What a prediction is: frozen dataclasses of plain Python values and numpy arrays, one for each task."""

from __future__ import annotations

from .classification import Classification as Classification
from .detections import Detections as Detections
from .segmentation import SegmentationMap as SegmentationMap
