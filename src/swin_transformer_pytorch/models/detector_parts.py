"""A detector's parts as its config has them: rules of proposals, heads of regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..heads.cascade import CASCADE_STAGES, CascadeRoIHead
from ..heads.htc import HTC_STAGES, HTCMaskHead, HTCRoIHead
from ..heads.roi import BoxHead, MaskHead
from ..heads.roi_head import DetectionRules, RoIHead
from ..heads.rpn import ProposalLimits, RPNRules
from ..heads.semantic import SemanticHead
from ..heads.standard_roi import StandardRoIHead
from .config import DetectorConfig, Method


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
    return _METHODS[config.method](config, strides)


def _standard(config: DetectorConfig, strides: Sequence[int]) -> StandardRoIHead:
    return StandardRoIHead(
        box_head=BoxHead(config.fpn_dim, num_classes=config.num_classes, fc_dim=config.fc_dim),
        mask_head=MaskHead(config.fpn_dim, num_classes=config.num_classes),
        strides=strides,
        num_classes=config.num_classes,
        num_samples=config.roi_samples,
        rules=_detection_rules(config),
    )


def _cascade(config: DetectorConfig, strides: Sequence[int]) -> CascadeRoIHead:
    return CascadeRoIHead(
        box_heads=[
            BoxHead(config.fpn_dim, num_classes=config.num_classes, fc_dim=config.fc_dim, num_convs=4, num_fcs=1)
            for _ in CASCADE_STAGES
        ],
        mask_heads=[MaskHead(config.fpn_dim, num_classes=config.num_classes) for _ in CASCADE_STAGES],
        stages=CASCADE_STAGES,
        strides=strides,
        num_classes=config.num_classes,
        num_samples=config.roi_samples,
        rules=_detection_rules(config),
    )


def _htc(config: DetectorConfig, strides: Sequence[int]) -> HTCRoIHead:
    return HTCRoIHead(
        box_heads=[
            BoxHead(config.fpn_dim, num_classes=config.num_classes, fc_dim=config.fc_dim, class_agnostic=True)
            for _ in HTC_STAGES
        ],
        mask_heads=[
            HTCMaskHead(config.fpn_dim, num_classes=config.num_classes, takes_previous=index > 0)
            for index in range(len(HTC_STAGES))
        ],
        semantic_head=SemanticHead(
            channels=config.fpn_dim, num_classes=config.num_semantic_classes, num_levels=len(strides) + 1
        ),
        strides=strides,
        num_classes=config.num_classes,
        num_samples=config.roi_samples,
        rules=_detection_rules(config),
    )


_METHODS: dict[Method, Callable[[DetectorConfig, Sequence[int]], RoIHead]] = {
    "mask_rcnn": _standard,
    "cascade_mask_rcnn": _cascade,
    "htc": _htc,
}


def _detection_rules(config: DetectorConfig) -> DetectionRules:
    assert config.score_threshold is not None, "the config has put the method's own in its place"
    return DetectionRules(
        score_threshold=config.score_threshold,
        nms_threshold=config.nms_threshold,
        max_detections=config.max_detections,
        soft_nms=config.soft_nms,
    )
