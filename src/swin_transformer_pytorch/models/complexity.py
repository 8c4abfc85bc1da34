"""How many parameters a detector or segmenter has, in closed form: no model is built and no torch imported."""

from __future__ import annotations

from ..backbone.complexity import count_parameters
from ..backbone.config import SwinConfig
from .config import DenseConfig, DetectorConfig, SegmenterConfig

_REGION_CELLS = 7 * 7  # cells of a region that the box heads look at
_CONVS = 4  # of each mask head, each cascaded box head and the semantic branch
_STAGES = 3  # of a cascade


def count_dense_parameters(config: DenseConfig) -> int:
    """Parameters of the model, the auxiliary head included; batch norms' statistics are none."""
    backbone = config.backbone
    # A norm on every map, where a classifier has one at its end.
    norms = 2 * sum(backbone.stage_dims) - 2 * backbone.stage_dims[-1]
    heads = _detector(config) if isinstance(config, DetectorConfig) else _segmenter(config)
    return count_parameters(backbone, num_classes=0) + norms + heads


def _detector(config: DetectorConfig) -> int:
    dim, levels = config.fpn_dim, len(config.backbone.depths)
    neck = sum(_conv(channels, dim) for channels in config.backbone.stage_dims) + levels * _conv(dim, dim, 3)
    proposals = _conv(dim, dim, 3) + _conv(dim, 3) + _conv(dim, 12)
    total = neck + proposals
    if config.method == "mask_rcnn":
        total += _shared_box_head(config, 4 * config.num_classes) + _mask_head(config)
    elif config.method == "cascade_mask_rcnn":
        total += _STAGES * (_cascaded_box_head(config) + _mask_head(config))
    else:
        total += _STAGES * (_shared_box_head(config, 4) + _mask_head(config))
        total += (_STAGES - 1) * _conv(dim, dim)  # each later mask head takes in the features of the one before
        semantic = (levels + 2) * _conv(dim, dim) + _CONVS * _conv(dim, dim, 3)
        total += semantic + _conv(dim, config.num_semantic_classes)
    return total + (_attention_block(config.backbone) if config.global_attention else 0)


def _shared_box_head(config: DetectorConfig, regressions: int) -> int:
    wide = config.fc_dim
    layers = _conv(config.fpn_dim * _REGION_CELLS, wide) + _conv(wide, wide)
    return layers + _conv(wide, config.num_classes + 1) + _conv(wide, regressions)


def _cascaded_box_head(config: DetectorConfig) -> int:
    dim, wide = config.fpn_dim, config.fc_dim
    layers = _CONVS * _normed_conv(dim, dim, 3) + _conv(dim * _REGION_CELLS, wide)
    return layers + _conv(wide, config.num_classes + 1) + _conv(wide, 4 * config.num_classes)


def _mask_head(config: DetectorConfig) -> int:
    dim = config.fpn_dim
    return _CONVS * _conv(dim, dim, 3) + _conv(dim, dim, 2) + _conv(dim, config.num_classes)


def _attention_block(backbone: SwinConfig) -> int:
    dim = backbone.stage_dims[-1]
    hidden = 4 * dim  # whatever the backbone's ratio
    return 4 * dim + _conv(dim, 3 * dim) + _conv(dim, dim) + _conv(dim, hidden) + _conv(hidden, dim)


def _segmenter(config: SegmenterConfig) -> int:
    dim, scales = config.decode_dim, len(config.pool_scales)
    *finer, last = config.backbone.stage_dims
    pooling = scales * _normed_conv(last, dim) + _normed_conv(last + scales * dim, dim, 3)
    pyramid = sum(_normed_conv(channels, dim) + _normed_conv(dim, dim, 3) for channels in finer)
    together = _normed_conv((len(finer) + 1) * dim, dim, 3) + _conv(dim, config.num_classes)
    watched = config.backbone.stage_dims[config.auxiliary_index]
    auxiliary = _normed_conv(watched, config.auxiliary_dim, 3) + _conv(config.auxiliary_dim, config.num_classes)
    return pooling + pyramid + together + auxiliary


def _conv(in_channels: int, out_channels: int, kernel_size: int = 1) -> int:
    """With a bias; a linear layer is one of kernel 1."""
    return kernel_size * kernel_size * in_channels * out_channels + out_channels


def _normed_conv(in_channels: int, out_channels: int, kernel_size: int = 1) -> int:
    """Without a bias; a batch norm follows."""
    return kernel_size * kernel_size * in_channels * out_channels + 2 * out_channels
