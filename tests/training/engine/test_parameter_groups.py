"""Which parameters decay, and layer-wise decay, as the official optimizer.py has them."""

from typing import Any

import pytest
import torch

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.config import DetectorConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection import Detector
from swin_transformer_pytorch.models.mask2former_config import Mask2FormerConfig
from swin_transformer_pytorch.training.engine.parameter_groups import (
    decays,
    decays_in_dense_models,
    decays_in_mask_transformer,
    layer_index,
    parameter_groups,
)

DEPTHS = (2, 3)


def classifier(version: int) -> SwinClassifier:
    config = SwinConfig(version=version, embed_dim=8, depths=DEPTHS, num_heads=(1, 2), window_size=4)  # type: ignore[arg-type]
    with torch.device("meta"):
        return SwinClassifier(config, num_classes=3)


@pytest.mark.parametrize("version", [1, 2])
def test_only_weight_matrices_decay(version: int) -> None:
    decaying = {name for name, parameter in classifier(version).named_parameters() if decays(name, parameter)}
    kinds = {name.split(".", 2)[-1].split(".", 2)[-1] if name.startswith("layers") else name for name in decaying}
    expected = {"attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"}
    assert kinds == {*expected, "weight", "patch_embed.proj.weight", "head.weight"}
    assert all("norm" not in name and "cpb" not in name and "table" not in name for name in decaying)
    # "weight" above is the patch merging's: layers.0.downsample.reduction.weight
    assert "layers.0.downsample.reduction.weight" in decaying


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("patch_embed.proj.weight", 0),
        ("patch_embed.norm.bias", 0),
        ("layers.0.blocks.0.norm1.weight", 1),
        ("layers.0.blocks.1.mlp.fc1.weight", 2),
        ("layers.0.downsample.reduction.weight", 2),
        ("layers.0.downsample.norm.weight", 2),
        ("layers.1.blocks.0.attn.qkv.bias", 3),
        ("layers.1.blocks.2.attn.qkv.bias", 5),
        ("norm.weight", 6),
        ("head.weight", 6),
    ],
)
def test_layers_are_counted_as_in_the_official_code(name: str, layer: int) -> None:
    assert layer_index(name, DEPTHS) == layer


def test_every_parameter_is_in_one_group_with_its_layers_rate() -> None:
    model = classifier(1)
    groups = parameter_groups(model, DEPTHS, lr=1.0, weight_decay=0.05, layer_decay=0.5)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == 0.5 ** (6 - layer_index(name, DEPTHS))
    assert {group["weight_decay"] for group in groups} == {0.0, 0.05}


def test_without_layer_decay_there_are_two_groups_and_frozen_parameters_are_in_none() -> None:
    model = classifier(2)
    model.patch_embed.requires_grad_(False)
    groups = parameter_groups(model, DEPTHS, lr=1e-3, weight_decay=0.1)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-3, 0.0), (1e-3, 0.1)]
    trained = sum(len(group["params"]) for group in groups)
    assert trained == sum(parameter.requires_grad for parameter in model.parameters())


def build_dense(version: int) -> Detector:
    backbone = {"version": version, "embed_dim": 8, "depths": DEPTHS, "num_heads": (1, 2), "window_size": 4}
    config = DetectorConfig.from_dict(
        {"method": "cascade_mask_rcnn", "backbone": backbone, "num_classes": 3, "fpn_dim": 8, "fc_dim": 8}
    )
    with torch.device("meta"):
        return build(ModelDescription(config=config))


@pytest.mark.parametrize("version", [1, 2])
def test_dense_models_decay_by_the_official_rule_of_names(version: int) -> None:
    model = build_dense(version)
    rule = {name: decays_in_dense_models(name, parameter) for name, parameter in model.named_parameters()}
    assert rule["roi_head.bbox_head.0.shared_convs.0.bn.weight"], "head batch norms decay"
    assert rule["roi_head.bbox_head.0.fc_cls.bias"], "and so do biases"
    assert rule["backbone.layers.0.blocks.0.attn.proj.bias"]
    assert rule["backbone.layers.0.downsample.reduction.weight"]
    for name in ("backbone.patch_embed.norm.weight", "backbone.norm0.bias", "backbone.layers.0.blocks.0.norm1.weight"):
        assert not rule[name]
    assert not rule["backbone.layers.0.downsample.norm.bias"]
    words = ("relative_position_bias_table",) if version == 1 else ("logit_scale", "cpb_mlp")
    assert all(any(word in name and not decays for name, decays in rule.items()) for word in words)


def test_layers_of_a_dense_models_backbone_are_counted_too() -> None:
    model = build_dense(1)
    groups = parameter_groups(model, DEPTHS, lr=1.0, weight_decay=0.05, layer_decay=0.5, rule=decays_in_dense_models)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    named = dict(model.named_parameters())
    assert rates[id(named["backbone.patch_embed.proj.weight"])] == 0.5**6
    assert rates[id(named["backbone.layers.1.blocks.2.attn.qkv.bias"])] == 0.5
    assert rates[id(named["backbone.norm0.weight"])] == rates[id(named["rpn_head.rpn_conv.weight"])] == 1.0


def build_mask_transformer(version: int) -> Any:
    backbone = SwinConfig(
        version=version,  # type: ignore[arg-type]
        embed_dim=8,
        depths=DEPTHS,
        num_heads=(1, 2),
        single_window="keep",
    )
    config = Mask2FormerConfig(
        backbone=backbone, num_classes=3, dim=32, num_queries=4, encoder_layers=1, decoder_layers=2
    )
    with torch.device("meta"):
        return build(ModelDescription(config=config))


@pytest.mark.parametrize("version", [1, 2])
def test_mask_transformers_decay_by_the_kinds_of_layers(version: int) -> None:
    model = build_mask_transformer(version)
    decays = decays_in_mask_transformer(model)
    rule = {name: decays(name, parameter) for name, parameter in model.named_parameters()}
    pixels, masks = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
    for name in (
        f"{pixels}input_proj.0.1.weight",  # a group norm that no name tells
        f"{pixels}transformer.encoder.layers.0.norm1.bias",
        f"{pixels}layer_1.norm.weight",
        f"{masks}decoder_norm.weight",
        f"{masks}query_feat.weight",
        f"{masks}query_embed.weight",
        f"{masks}level_embed.weight",
        "backbone.norm0.bias",
        "backbone.layers.0.downsample.norm.weight",
        "backbone.layers.0.blocks.0.norm1.weight",
    ):
        assert not rule[name], name
    for name in (
        f"{pixels}input_proj.0.0.bias",
        f"{pixels}transformer.level_embed",
        f"{pixels}transformer.encoder.layers.0.self_attn.sampling_offsets.bias",
        f"{masks}class_embed.bias",
        "backbone.layers.0.blocks.0.attn.proj.bias",
    ):
        assert rule[name], name
    words = ("relative_position_bias_table",) if version == 1 else ("logit_scale", "cpb_mlp")
    assert all(any(word in name and not decays for name, decays in rule.items()) for word in words)


def test_a_backbone_learns_at_a_rate_of_its_own() -> None:
    model = build_mask_transformer(1)
    rule = decays_in_mask_transformer(model)
    groups = parameter_groups(model, DEPTHS, lr=1.0, weight_decay=0.05, backbone_lr=0.1, layer_decay=0.5, rule=rule)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    named = dict(model.named_parameters())
    assert len(rates) == len(named)
    assert rates[id(named["backbone.patch_embed.proj.weight"])] == 0.1 * 0.5**6
    assert rates[id(named["backbone.norm0.weight"])] == 0.1
    assert rates[id(named["sem_seg_head.predictor.class_embed.weight"])] == 1.0
    assert len({group["name"] for group in groups}) == len(groups)
