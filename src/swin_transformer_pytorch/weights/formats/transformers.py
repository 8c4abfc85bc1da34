"""transformers' names: query, key and value apart. V1 was renamed in its version 5; hub files keep the older names."""

from __future__ import annotations

import re

from ...sizes import Size
from . import dense, mask2former
from .format import Format, FormatError, StateDict
from .official import depths_of

_Rules = tuple[tuple[str, str], ...]

# transformers -> official, each pattern once where it matches; today's names and the older ones.
_READ: _Rules = (
    (r"^(swin|swinv2)\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^encoder\.layers\.", "layers."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(self\.query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(self\.key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(self\.value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (
        r"\.attention\.(self|relative_position_bias)\.relative_position_bias_table$",
        ".attn.relative_position_bias_table",
    ),
    (r"\.attention\.self\.continuous_position_bias_mlp\.", ".attn.cpb_mlp."),
    (r"\.attention\.self\.logit_scale$", ".attn.logit_scale"),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)

_WRITE: _Rules = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^layers\.", "encoder.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"^norm\.", "layernorm."),
)
_WRITE_V1: _Rules = (
    (r"\.attn\.([qkv])\.", r".attention.\1_proj."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.relative_position_bias_table$", ".attention.relative_position_bias.relative_position_bias_table"),
)
_WRITE_V2: _Rules = (
    (r"\.attn\.q\.", ".attention.self.query."),
    (r"\.attn\.k\.", ".attention.self.key."),
    (r"\.attn\.v\.", ".attention.self.value."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.cpb_mlp\.", ".attention.self.continuous_position_bias_mlp."),
    (r"\.attn\.logit_scale$", ".attention.self.logit_scale"),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
# The same in the heads of `UperNetForSemanticSegmentation`; those of Mask2Former are in mask2former.py.
_READ_HEADS: _Rules = ((r"\.batch_norm\.", ".bn."), (r"^(decode_head|auxiliary_head)\.classifier\.", r"\1.conv_seg."))
_WRITE_HEADS: _Rules = ((r"\.bn\.", ".batch_norm."), (r"\.conv_seg\.", ".classifier."))
_DENSE_NORM = re.compile(r"hidden_states_norms\.stage(\d+)\.")


def matches(keys: set[str]) -> bool:
    return any(key.endswith("embeddings.patch_embeddings.projection.weight") for key in keys)


def to_official(state_dict: StateDict) -> StateDict:
    named = {_rename(key, _READ): tensor for key, tensor in state_dict.items()}
    return _join_qkv({_DENSE_NORM.sub(lambda m: f"norm{int(m[1]) - 1}.", key): v for key, v in named.items()})


def from_official(state_dict: StateDict, _window: Size | None = None) -> StateDict:
    """Today's names, as `SwinForImageClassification`, `SwinBackbone` and `SwinForMaskedImageModeling` have them."""
    v2 = any(key.endswith(".logit_scale") for key in state_dict)
    rules = _WRITE + (_WRITE_V2 if v2 else _WRITE_V1)
    out: StateDict = {}
    for key, tensor in _split_qkv(state_dict).items():
        if match := re.fullmatch(r"norm(\d+)\.(weight|bias)", key):
            out[f"hidden_states_norms.stage{int(match[1]) + 1}.{match[2]}"] = tensor
        elif key.startswith("head."):
            out[key.replace("head.", "classifier.", 1)] = tensor
        elif key.startswith("decoder."):
            out[key] = tensor
        else:
            out[f"{'swinv2' if v2 else 'swin'}.{_rename(key, rules)}"] = tensor
    return out


def read_heads(heads: StateDict) -> StateDict:
    heads = mask2former.read_transformers(heads)
    return {_rename(key, _READ_HEADS): tensor for key, tensor in heads.items()}


def write_whole(backbone: StateDict, heads: StateDict) -> StateDict:
    """Their backbone has a last norm that it never uses, whose first values are written so that it loads strictly."""
    masks = mask2former.is_mask2former(heads)
    if not (masks or any(key.startswith("decode_head.") for key in heads)) or any(
        key.endswith(".logit_scale") for key in backbone
    ):
        raise FormatError(
            "'transformers' has UPerNet and Mask2Former on Swin V1 alone of these models: use official or openmmlab, "
            "or convert the backbone alone"
        )
    last = backbone[f"norm{len(depths_of(backbone)) - 1}.weight"]
    unused = {"norm.weight": last.new_ones(last.shape), "norm.bias": last.new_zeros(last.shape)}
    named = from_official({**backbone, **unused})
    if masks:
        return dense.join(named, mask2former.write_transformers(heads), dense.BACKBONE_OF_TRANSFORMERS)
    return dense.join(named, {_rename(key, _WRITE_HEADS): tensor for key, tensor in heads.items()})


def _rename(key: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _join_qkv(state_dict: StateDict) -> StateDict:
    """Query, key and value in one matrix. V2's keys have no bias, so its other two stay apart."""
    import torch

    out: StateDict = {}
    for key, tensor in state_dict.items():
        match = re.fullmatch(r"(.*\.attn\.)([qkv])\.(weight|bias)", key)
        if match is None:
            out[key] = tensor
            continue
        attention, part, kind = match.groups()
        parts = [state_dict.get(f"{attention}{letter}.{kind}") for letter in "qkv"]
        whole = [other for other in parts if other is not None]
        if len(whole) == 3 and len({(other.dtype, other.shape) for other in whole}) == 1:
            out[f"{attention}qkv.{kind}"] = torch.cat(whole)
        elif kind == "bias":
            out[f"{attention}{part}_bias"] = tensor
        else:
            out[key] = tensor  # A part is missing or unlike the others: left as it is, so that loading names it.
    return out


def _split_qkv(state_dict: StateDict) -> StateDict:
    out: StateDict = {}
    for key, tensor in state_dict.items():
        attention, _, parameter = key.rpartition("attn.")
        if parameter in ("qkv.weight", "qkv.bias"):
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                out[f"{attention}attn.{letter}.{parameter[4:]}"] = part
        elif parameter in ("q_bias", "v_bias"):
            out[f"{attention}attn.{parameter[0]}.bias"] = tensor
        else:
            out[key] = tensor
    return out


FORMAT = Format(
    name="transformers",
    matches=matches,
    read=to_official,
    write=from_official,
    read_heads=read_heads,
    write_whole=write_whole,
)
