"""What a file of official names tells of the model that it is of, where nothing describes it.

A model that is built says which of its parameters have rows for classes; this is for files alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

HEADS = ("rpn_head", "roi_head", "decode_head", "auxiliary_head", "sem_seg_head")
"""What whole detectors and segmenters have beside backbone and neck, under the names of this package."""


class Method(NamedTuple):
    """A way to detect or segment: its name, its task, how the names begin that tell it, and which parameter has one
    row a class, and `background` more; `also` are further tasks that the same names may be for."""

    name: str
    task: Literal["detection", "segmentation", "panoptic"]
    part: str
    classes: str
    background: int = 0
    also: tuple[str, ...] = ()


# The first whose part is there.
METHODS = (
    Method(
        *("mask2former", "panoptic", "sem_seg_head.predictor.", "sem_seg_head.predictor.class_embed.weight", 1),
        also=("detection", "segmentation"),
    ),
    Method("upernet", "segmentation", "decode_head.", "decode_head.conv_seg.weight"),
    Method("htc", "detection", "roi_head.semantic_head.", "roi_head.bbox_head.0.fc_cls.weight", 1),
    Method("cascade_mask_rcnn", "detection", "roi_head.bbox_head.0.", "roi_head.bbox_head.0.fc_cls.weight", 1),
    Method("mask_rcnn", "detection", "roi_head.bbox_head.", "roi_head.bbox_head.fc_cls.weight", 1),
)


def method_of(keys: Iterable[str]) -> Method | None:
    """That of a whole detector or segmenter; None of a classifier, a backbone or another model."""
    keys = list(keys)
    return next((method for method in METHODS if any(key.startswith(method.part) for key in keys)), None)


def num_classes_of(state_dict: Mapping[str, Tensor]) -> int:
    """Classes of a model, a detector's background not counted; 0 where nothing tells."""
    method = method_of(state_dict)
    counted, background = (method.classes, method.background) if method is not None else ("head.weight", 0)
    rows = state_dict.get(counted)
    return rows.shape[0] - background if rows is not None and rows.ndim > 1 else 0
