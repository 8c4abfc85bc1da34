"""The tensors of the authors' detectors and segmenters, written out by name and shape, apart from our modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.config import DenseConfig, DetectorConfig, SegmenterConfig

Shapes = dict[str, tuple[int, ...]]

SMALL = SwinConfig(
    embed_dim=8, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=3, single_window="keep", drop_path_rate=0.0
)
SMALL_CONFIGS: dict[str, DenseConfig] = {
    "mask_rcnn": DetectorConfig(backbone=SMALL, num_classes=3, fpn_dim=8, fc_dim=16),
    "cascade_mask_rcnn": DetectorConfig(
        method="cascade_mask_rcnn", backbone=SMALL, num_classes=3, fpn_dim=8, fc_dim=16
    ),
    "upernet": SegmenterConfig(backbone=SMALL, num_classes=5, decode_dim=8, auxiliary_dim=4),
}


@pytest.fixture(scope="session")
def dense_configs() -> dict[str, DenseConfig]:
    """A small one of each method."""
    return SMALL_CONFIGS


@pytest.fixture(scope="session")
def official_shapes() -> Callable[[DenseConfig], Shapes]:
    """Every name and shape of the authors' file of a model, their index buffers included."""
    return _official_shapes


@pytest.fixture(scope="session")
def official_file() -> Callable[..., dict[str, Tensor]]:
    """Such a file: random numbers, the variances positive."""

    def make(config: DenseConfig, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        out: dict[str, Tensor] = {}
        for name, shape in _official_shapes(config).items():
            if name.endswith(("relative_position_index", "num_batches_tracked")):
                out[name] = torch.full(shape, 7, dtype=torch.int64)
            else:
                drawn = torch.randn(shape, generator=generator) * 0.1
                out[name] = drawn.abs() + 0.5 if name.endswith("running_var") else drawn
        return out

    return make


def _official_shapes(config: DenseConfig) -> Shapes:
    heads = _detector(config) if isinstance(config, DetectorConfig) else _segmenter(config)
    return {**{f"backbone.{key}": shape for key, shape in _backbone(config.backbone)}, **dict(heads)}


def _backbone(config: SwinConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    dim, window = config.embed_dim, config.window_size[0]
    yield from _affine("patch_embed.proj", dim, 3, 4, 4)
    yield from _affine("patch_embed.norm", dim)
    for stage, (depth, heads) in enumerate(zip(config.depths, config.num_heads, strict=True)):
        dim = config.embed_dim * 2**stage
        for block in range(depth):
            start = f"layers.{stage}.blocks.{block}"
            yield from _affine(f"{start}.norm1", dim)
            yield f"{start}.attn.relative_position_bias_table", ((2 * window - 1) ** 2, heads)
            yield f"{start}.attn.relative_position_index", (window**2, window**2)
            yield from _affine(f"{start}.attn.qkv", 3 * dim, dim)
            yield from _affine(f"{start}.attn.proj", dim, dim)
            yield from _affine(f"{start}.norm2", dim)
            yield from _affine(f"{start}.mlp.fc1", 4 * dim, dim)
            yield from _affine(f"{start}.mlp.fc2", dim, 4 * dim)
        if stage < len(config.depths) - 1:
            yield f"layers.{stage}.downsample.reduction.weight", (2 * dim, 4 * dim)
            yield from _affine(f"layers.{stage}.downsample.norm", 4 * dim)
        yield from _affine(f"norm{stage}", dim)


def _detector(config: DetectorConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    dim = config.fpn_dim
    for level, channels in enumerate(config.backbone.stage_dims):
        yield from _affine(f"neck.lateral_convs.{level}.conv", dim, channels, 1, 1)
        yield from _affine(f"neck.fpn_convs.{level}.conv", dim, dim, 3, 3)
    yield from _affine("rpn_head.rpn_conv", dim, dim, 3, 3)
    yield from _affine("rpn_head.rpn_cls", 3, dim, 1, 1)
    yield from _affine("rpn_head.rpn_reg", 12, dim, 1, 1)
    cascade = config.method == "cascade_mask_rcnn"
    for stage in ("0.", "1.", "2.") if cascade else ("",):
        box, mask = f"roi_head.bbox_head.{stage}", f"roi_head.mask_head.{stage}"
        if cascade:
            for i in range(4):
                yield from _normed(f"{box}shared_convs.{i}", dim, dim, 3)
        yield from _affine(f"{box}shared_fcs.0", config.fc_dim, dim * 7 * 7)
        if not cascade:
            yield from _affine(f"{box}shared_fcs.1", config.fc_dim, config.fc_dim)
        yield from _affine(f"{box}fc_cls", config.num_classes + 1, config.fc_dim)
        yield from _affine(f"{box}fc_reg", 4 * config.num_classes, config.fc_dim)
        for i in range(4):
            yield from _affine(f"{mask}convs.{i}.conv", dim, dim, 3, 3)
        yield f"{mask}upsample.weight", (dim, dim, 2, 2)
        yield f"{mask}upsample.bias", (dim,)
        yield from _affine(f"{mask}conv_logits", config.num_classes, dim, 1, 1)


def _segmenter(config: SegmenterConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    dim, stages = config.decode_dim, config.backbone.stage_dims
    for i in range(4):
        yield from _normed(f"decode_head.psp_modules.{i}.1", dim, stages[-1], 1)
    yield from _normed("decode_head.bottleneck", dim, stages[-1] + 4 * dim, 3)
    for i, channels in enumerate(stages[:-1]):
        yield from _normed(f"decode_head.lateral_convs.{i}", dim, channels, 1)
        yield from _normed(f"decode_head.fpn_convs.{i}", dim, dim, 3)
    yield from _normed("decode_head.fpn_bottleneck", dim, 4 * dim, 3)
    yield from _affine("decode_head.conv_seg", config.num_classes, dim, 1, 1)
    yield from _normed("auxiliary_head.convs.0", config.auxiliary_dim, stages[2], 3)
    yield from _affine("auxiliary_head.conv_seg", config.num_classes, config.auxiliary_dim, 1, 1)


def _affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _normed(name: str, out_channels: int, in_channels: int, kernel: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.conv.weight", (out_channels, in_channels, kernel, kernel)
    yield from _affine(f"{name}.bn", out_channels)
    for statistic in ("running_mean", "running_var"):
        yield f"{name}.bn.{statistic}", (out_channels,)
    yield f"{name}.bn.num_batches_tracked", ()


@pytest.fixture(scope="session")
def build() -> Callable[[DenseConfig], Any]:
    """The model of a configuration, in evaluation mode."""
    from swin_transformer_pytorch.models.build import build
    from swin_transformer_pytorch.models.description import ModelDescription

    def make(config: DenseConfig) -> Any:
        return build(ModelDescription(config=config)).eval()

    return make
