"""What a prediction is: frozen dataclasses of plain Python values and numpy arrays, one for each task."""

from __future__ import annotations

from .classification import Classification as Classification
from .detections import Detections as Detections
from .panoptic import PanopticSegmentation as PanopticSegmentation, Segment as Segment
from .segmentation import SegmentationMap as SegmentationMap
