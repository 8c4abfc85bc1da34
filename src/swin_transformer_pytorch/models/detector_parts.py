"""A detector's parts as its config has them: rules of proposals, heads of regions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..heads.cascade import CASCADE_STAGES, CascadeRoIHead
from ..heads.htc import HTC_STAGES, HTCMaskHead, HTCRoIHead
from ..heads.roi import BoxHead, MaskHead
from ..heads.roi_head import DetectionRules, RoIHead
from ..heads.rpn import ProposalLimits, RPNRules
from ..heads.semantic import SemanticHead
from ..heads.standard_roi import StandardRoIHead
from .config import DetectorConfig


def rpn_rules(config: DetectorConfig, strides: tuple[int, ...]) -> RPNRules:
    """The official settings; a cascade learns from other anchors, by another loss, and from more proposals."""
    cascade = config.method != "mask_rcnn"
    return RPNRules(
        strides=(*strides, 2 * strides[-1]),
        training=ProposalLimits(per_level=2000, per_image=2000 if cascade else 1000),
        num_samples=config.rpn_samples,
        regression="smooth_l1" if cascade else "l1",
        inside_only=cascade,
        size_divisor=strides[-1],
    )


def build_roi_head(config: DetectorConfig, strides: Sequence[int]) -> RoIHead:
    """The method's heads on maps of those strides, finest first; the pyramid has one more above them."""
    assert config.score_threshold is not None, "the config has put the method's own in its place"
    box_head = partial(BoxHead, config.fpn_dim, num_classes=config.num_classes, fc_dim=config.fc_dim)
    mask_head = partial(MaskHead, config.fpn_dim, num_classes=config.num_classes)
    shared: dict[str, Any] = {
        "strides": strides,
        "num_classes": config.num_classes,
        "num_samples": config.roi_samples,
        "rules": DetectionRules(
            score_threshold=config.score_threshold,
            nms_threshold=config.nms_threshold,
            max_detections=config.max_detections,
            soft_nms=config.soft_nms,
        ),
    }
    if config.method == "mask_rcnn":
        return StandardRoIHead(box_head=box_head(), mask_head=mask_head(), **shared)
    if config.method == "cascade_mask_rcnn":
        return CascadeRoIHead(
            box_heads=[box_head(num_convs=4, num_fcs=1) for _ in CASCADE_STAGES],
            mask_heads=[mask_head() for _ in CASCADE_STAGES],
            stages=CASCADE_STAGES,
            **shared,
        )
    return HTCRoIHead(
        box_heads=[box_head(class_agnostic=True) for _ in HTC_STAGES],
        mask_heads=[
            HTCMaskHead(config.fpn_dim, num_classes=config.num_classes, takes_previous=index > 0)
            for index in range(len(HTC_STAGES))
        ],
        semantic_head=SemanticHead(
            channels=config.fpn_dim, num_classes=config.num_semantic_classes, num_levels=len(strides) + 1
        ),
        **shared,
    )
