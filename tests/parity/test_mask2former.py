"""All predictions the same as transformers' Mask2Former on Swin, with the same weights, at sizes of every kind.

Its weights are carried over name by name here: what the formats' key maps say is proven by tests/weights.
"""

import re

import pytest
import torch
import transformers
from torch import Tensor

from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.mask2former import Mask2Former
from swin_transformer_pytorch.models.mask2former_config import Mask2FormerConfig
from swin_transformer_pytorch.weights.formats import convert_state_dict

CONFIG = Mask2FormerConfig(
    num_classes=11, num_queries=13, dim=64, attention_heads=4, encoder_dim=48, encoder_layers=2, feedforward_dim=80
).replace(embed_dim=24, depths=(2, 2, 2, 1), num_heads=(1, 2, 4, 8), window_size=7)
SIZES = [(37, 61), (64, 96), (91, 53), (128, 33), (130, 171), (215, 97)]

_BACKBONE, _PIXELS, _QUERIES = (
    "model.pixel_level_module.encoder.",
    "model.pixel_level_module.decoder.",
    "model.transformer_module.",
)
# What a name of theirs begins with or holds -> ours, in order.
_PIXEL_NAMES = {
    r"^input_projections\.": "input_proj.",
    r"^level_embed$": "transformer.level_embed",
    r"^encoder\.layers\.": "transformer.encoder.layers.",
    r"\.self_attn_layer_norm\.": ".norm1.",
    r"\.final_layer_norm\.": ".norm2.",
    r"\.fc(\d)\.": r".linear\1.",
    r"^(adapter|layer)_1\.0\.": r"\1_1.",
    r"^(adapter|layer)_1\.1\.": r"\1_1.norm.",
    r"^mask_projection\.": "mask_features.",
}
_QUERY_NAMES = {
    r"^queries_features\.": "query_feat.",
    r"^queries_embedder\.": "query_embed.",
    r"^decoder\.layernorm\.": "decoder_norm.",
    r"^decoder\.mask_predictor\.mask_embedder\.(\d)\.0\.": r"mask_embed.layers.\1.",
    r"^decoder\.layers\.(\d+)\.cross_attn\.": r"transformer_cross_attention_layers.\1.multihead_attn.",
    r"^decoder\.layers\.(\d+)\.cross_attn_layer_norm\.": r"transformer_cross_attention_layers.\1.norm.",
    r"^decoder\.layers\.(\d+)\.self_attn\.": r"transformer_self_attention_layers.\1.self_attn.",
    r"^decoder\.layers\.(\d+)\.self_attn_layer_norm\.": r"transformer_self_attention_layers.\1.norm.",
    r"^decoder\.layers\.(\d+)\.fc(\d)\.": r"transformer_ffn_layers.\1.linear\2.",
    r"^decoder\.layers\.(\d+)\.final_layer_norm\.": r"transformer_ffn_layers.\1.norm.",
}


def renamed(key: str, names: dict[str, str]) -> str:
    for pattern, name in names.items():
        key = re.sub(pattern, name, key)
    return key


def our_state_dict(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    backbone = {f"backbone.{key.removeprefix(_BACKBONE)}": one for key, one in theirs.items() if _BACKBONE in key}
    for key, tensor in theirs.items():
        if key.startswith(_PIXELS):
            ours[f"sem_seg_head.pixel_decoder.{renamed(key.removeprefix(_PIXELS), _PIXEL_NAMES)}"] = tensor
        elif key.startswith(_QUERIES):
            ours[f"sem_seg_head.predictor.{renamed(key.removeprefix(_QUERIES), _QUERY_NAMES)}"] = tensor
        elif key.startswith("class_predictor."):
            ours[f"sem_seg_head.predictor.class_embed.{key.removeprefix('class_predictor.')}"] = tensor
    for key in [key for key in ours if ".self_attn.q_proj." in key]:
        parts = [ours.pop(key.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
        ours[key.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    return {**ours, **official_backbone(backbone)}


def official_backbone(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Through the format of their segmenters, whose backbone is the same."""
    rest = {"decode_head.classifier.weight": torch.zeros(1, 1, 1, 1)}
    known = {key: tensor for key, tensor in theirs.items() if "swin.layernorm" not in key}
    converted = convert_state_dict({**known, **rest}, to="official", source="transformers")
    return {key: tensor for key, tensor in converted.items() if key.startswith("backbone.")}


@pytest.fixture(scope="module")
def theirs() -> transformers.Mask2FormerForUniversalSegmentation:
    """Every parameter is random, so that a tensor in the wrong place shows."""
    backbone = transformers.SwinConfig(
        embed_dim=CONFIG.backbone.embed_dim,
        depths=list(CONFIG.backbone.depths),
        num_heads=list(CONFIG.backbone.num_heads),
        window_size=CONFIG.backbone.window_size[0],
        out_features=["stage1", "stage2", "stage3", "stage4"],
        attn_implementation="sdpa",
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=CONFIG.dim,
        mask_feature_size=CONFIG.dim,
        hidden_dim=CONFIG.dim,
        encoder_feedforward_dim=CONFIG.encoder_dim,
        encoder_layers=CONFIG.encoder_layers,
        num_attention_heads=CONFIG.attention_heads,
        dim_feedforward=CONFIG.feedforward_dim,
        num_queries=CONFIG.num_queries,
        num_labels=CONFIG.num_classes,
        output_auxiliary_logits=True,
    )
    model = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or "empty_weight" in name:
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim == 1:
            is_scale = name.endswith("weight")
            tensor.copy_(0.3 * noise + is_scale)
        elif "embed" in name and "patch" not in name:
            tensor.copy_(noise)
        else:
            tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
    return model.double()


@pytest.fixture(scope="module")
def ours(theirs: transformers.Mask2FormerForUniversalSegmentation) -> Mask2Former:
    model = build(ModelDescription(config=CONFIG)).double().eval()
    model.load_state_dict(our_state_dict(theirs.state_dict()))
    return model


def images(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(sum(size)), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_all_ten_predictions(
    size: tuple[int, int], theirs: transformers.Mask2FormerForUniversalSegmentation, ours: Mask2Former
) -> None:
    x = images(size)
    with torch.no_grad():
        expected = theirs(x)
        actual = ours.outputs(x)
        last = ours(x)
    assert len(actual) == 10 and len(expected.auxiliary_logits) == 9
    for one, of_layer in zip(actual[:-1], expected.auxiliary_logits, strict=True):
        torch.testing.assert_close(one.class_logits, of_layer["class_queries_logits"], rtol=0, atol=1e-8)
        torch.testing.assert_close(one.mask_logits, of_layer["masks_queries_logits"], rtol=0, atol=1e-8)
    for one in (actual[-1], last):
        torch.testing.assert_close(one.class_logits, expected.class_queries_logits, rtol=0, atol=1e-8)
        torch.testing.assert_close(one.mask_logits, expected.masks_queries_logits, rtol=0, atol=1e-8)
    assert last.class_logits.abs().max() > 1 and last.mask_logits.abs().max() > 1
