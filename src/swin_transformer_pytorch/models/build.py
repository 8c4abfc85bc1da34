"""From a description to a model with random weights: the only place that puts models together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..backbone.config import SwinConfig
from .backbone import SwinBackbone
from .classification import SwinClassifier
from .config import DetectorConfig, MaskedConfig, SegmenterConfig
from .description import ModelDescription
from .mask2former_config import Mask2FormerConfig

if TYPE_CHECKING:
    from .detection import Detector
    from .mask2former import Mask2Former
    from .masked import MaskedSwin
    from .segmentation import Segmenter

    Model = SwinClassifier | Detector | Segmenter | Mask2Former | MaskedSwin


def build(description: ModelDescription) -> Model:
    """The model of that description, with random weights: a classifier, a detector, a segmenter, a mask
    transformer, or one of masked pre-training.

    Raises:
        ConfigError: the description cannot be built.
    """
    config = description.config
    if isinstance(config, DetectorConfig):
        return _detector(config, description)
    if isinstance(config, SegmenterConfig):
        return _segmenter(config, description)
    if isinstance(config, Mask2FormerConfig):
        return _mask2former(config, description)
    if isinstance(config, MaskedConfig):
        return _masked(config, description)
    return SwinClassifier(
        config, num_classes=description.num_classes, multi_label=description.multi_label, **_named(description)
    )


def build_backbone(
    config: SwinConfig, out_indices: Sequence[int] | None = None, *, name: str | None = None
) -> SwinBackbone:
    """A backbone alone, with random weights; `out_indices` are the stages whose maps it gives, None for all."""
    return SwinBackbone(
        config, out_indices=range(len(config.depths)) if out_indices is None else out_indices, name=name
    )


def _named(description: ModelDescription) -> dict[str, Any]:
    """What every model is told of itself."""
    return {"classes": description.classes, "preprocessing": description.preprocessing, "name": description.name}


# Imports are inside: detection brings torchvision's compiled operators, and a classifier needs neither.


def _detector(config: DetectorConfig, description: ModelDescription) -> Detector:
    """Levels of the pyramid follow the backbone's stages, however many there are; one more is for proposals alone."""
    from ..heads.fpn import FPN
    from ..heads.global_attention import GlobalAttention
    from ..heads.rpn import RPNHead
    from .detection import Detector
    from .detector_parts import build_roi_head, rpn_rules

    backbone = build_backbone(config.backbone)
    strides = tuple(height for height, _ in config.backbone.stage_strides)
    heads = config.backbone.num_heads[-1]
    return Detector(
        config,
        backbone=backbone,
        global_attention=GlobalAttention(backbone.channels[-1], heads) if config.global_attention else None,
        neck=FPN(backbone.channels, config.fpn_dim),
        rpn_head=RPNHead(config.fpn_dim, rules=rpn_rules(config, strides)),
        roi_head=build_roi_head(config, strides),
        **_named(description),
    )


def _segmenter(config: SegmenterConfig, description: ModelDescription) -> Segmenter:
    from ..heads.upernet import FCNHead, UPerHead
    from .segmentation import Segmenter

    backbone = build_backbone(config.backbone)
    return Segmenter(
        config,
        backbone,
        UPerHead(backbone.channels, config.decode_dim, config.num_classes, config.pool_scales, config.dropout),
        FCNHead(backbone.channels[config.auxiliary_index], config.auxiliary_dim, config.num_classes, config.dropout),
        palette=description.palette,
        **_named(description),
    )


def _mask2former(config: Mask2FormerConfig, description: ModelDescription) -> Mask2Former:
    """All maps but the finest go through the encoder, however many there are."""
    from ..heads.masked_attention import MaskedDecoder
    from ..heads.pixel_decoder import PixelDecoder
    from .mask2former import Mask2Former

    backbone = build_backbone(config.backbone)
    return Mask2Former(
        config,
        backbone,
        PixelDecoder(
            backbone.channels,
            config.dim,
            feedforward_dim=config.encoder_dim,
            num_layers=config.encoder_layers,
            num_heads=config.attention_heads,
        ),
        MaskedDecoder(
            config.dim,
            config.feedforward_dim,
            num_classes=config.num_classes,
            num_queries=config.num_queries,
            num_layers=config.decoder_layers,
            num_heads=config.attention_heads,
            num_levels=len(backbone.channels) - 1,
        ),
        palette=description.palette,
        **_named(description),
    )


def _masked(config: MaskedConfig, description: ModelDescription) -> MaskedSwin:
    from .masked import MaskedSwin

    return MaskedSwin(config, **_named(description))
