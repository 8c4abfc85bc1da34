"""Mask2Former's heads: the names of its authors, which are this package's own, and those of the other libraries.

The authors' own files may have two older names, from before their code was published.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .format import FormatError, StateDict

HEAD = "sem_seg_head."
_PIXEL_DECODER = (f"{HEAD}pixel_decoder.", "model.pixel_level_module.decoder.", "panoptic_head.pixel_decoder.")
_DECODER = (f"{HEAD}predictor.", "model.transformer_module.", "panoptic_head.")
_CLASSES = (f"{HEAD}predictor.", "", "panoptic_head.")

# The authors' name | transformers' | OpenMMLab's, each behind its prefix; * is a number. What follows a point is alike.
_PIXEL_DECODER_NAMES = """
input_proj.*.0.                            input_projections.*.0.                  input_convs.*.conv.
input_proj.*.1.                            input_projections.*.1.                  input_convs.*.gn.
transformer.level_embed                    level_embed                             level_encoding.weight
transformer.encoder.layers.*.self_attn.    encoder.layers.*.self_attn.             encoder.layers.*.self_attn.
transformer.encoder.layers.*.norm1.        encoder.layers.*.self_attn_layer_norm.  encoder.layers.*.norms.0.
transformer.encoder.layers.*.linear1.      encoder.layers.*.fc1.                   encoder.layers.*.ffn.layers.0.0.
transformer.encoder.layers.*.linear2.      encoder.layers.*.fc2.                   encoder.layers.*.ffn.layers.1.
transformer.encoder.layers.*.norm2.        encoder.layers.*.final_layer_norm.      encoder.layers.*.norms.1.
adapter_1.weight                           adapter_1.0.weight                      lateral_convs.0.conv.weight
adapter_1.norm.                            adapter_1.1.                            lateral_convs.0.gn.
layer_1.weight                             layer_1.0.weight                        output_convs.0.conv.weight
layer_1.norm.                              layer_1.1.                              output_convs.0.gn.
mask_features.                             mask_projection.                        mask_feature.
"""
_CROSS, _SELF = "transformer_cross_attention_layers.*.", "transformer_self_attention_layers.*."
_FFN, _THEIRS, _MM = "transformer_ffn_layers.*.", "decoder.layers.*.", "transformer_decoder.layers.*."
_DECODER_NAMES = f"""
query_feat.              queries_features.                           query_feat.
query_embed.             queries_embedder.                           query_embed.
level_embed.             level_embed.                                level_embed.
{_CROSS}multihead_attn.  {_THEIRS}cross_attn.                        {_MM}cross_attn.attn.
{_CROSS}norm.            {_THEIRS}cross_attn_layer_norm.             {_MM}norms.0.
{_SELF}self_attn.        {_THEIRS}self_attn.                         {_MM}self_attn.attn.
{_SELF}norm.             {_THEIRS}self_attn_layer_norm.              {_MM}norms.1.
{_FFN}linear1.           {_THEIRS}fc1.                               {_MM}ffn.layers.0.0.
{_FFN}linear2.           {_THEIRS}fc2.                               {_MM}ffn.layers.1.
{_FFN}norm.              {_THEIRS}final_layer_norm.                  {_MM}norms.2.
decoder_norm.            decoder.layernorm.                          transformer_decoder.post_norm.
mask_embed.layers.0.     decoder.mask_predictor.mask_embedder.0.0.   mask_embed.0.
mask_embed.layers.1.     decoder.mask_predictor.mask_embedder.1.0.   mask_embed.2.
mask_embed.layers.2.     decoder.mask_predictor.mask_embedder.2.0.   mask_embed.4.
"""
_CLASSES_NAMES = "class_embed. class_predictor. cls_embed."

_AUTHORS, _TRANSFORMERS, _OPENMMLAB = range(3)  # columns
_ROWS = [
    [prefix + name for prefix, name in zip(prefixes, line.split(), strict=True)]
    for prefixes, table in (
        (_PIXEL_DECODER, _PIXEL_DECODER_NAMES),
        (_DECODER, _DECODER_NAMES),
        (_CLASSES, _CLASSES_NAMES),
    )
    for line in table.strip().split("\n")
]
# Where transformers has query, key and value apart; torch's own module for both attentions has them in one matrix.
_SELF_ATTENTION = rf"({re.escape(HEAD)}predictor\.transformer_self_attention_layers\.\d+\.self_attn\.)"
_APART = re.compile(rf"{_SELF_ATTENTION}([qkv])_proj\.(weight|bias)")
_TOGETHER = re.compile(rf"{_SELF_ATTENTION}in_proj_(weight|bias)")

_BARE = re.compile(rf"^{re.escape(HEAD)}(?!pixel_decoder\.|predictor\.)")

_COUNTERWEIGHT = "criterion.empty_weight"
_NO_OBJECT = 0.1  # the weight of "none" in the loss, in every published configuration


def is_mask2former(keys: Iterable[str]) -> bool:
    """Whether these heads, under the authors' names, are its."""
    return any(key.startswith(HEAD) for key in keys)


def read_authors(heads: StateDict) -> StateDict:
    """Its older names made today's: the pixel decoder's without a prefix, and `static_query`."""
    out: StateDict = {}
    for key, tensor in heads.items():
        name = _BARE.sub(_PIXEL_DECODER[_AUTHORS], key)
        out[name.replace(f"{HEAD}predictor.static_query.", f"{HEAD}predictor.query_feat.")] = tensor
    return out


def read_transformers(heads: StateDict) -> StateDict:
    return _join({_renamed(key, _TRANSFORMERS, _AUTHORS) or key: tensor for key, tensor in heads.items()})


def write_transformers(heads: StateDict) -> StateDict:
    """With the weight of each class in the loss, which its strict loading wants to see."""
    out = _write(_split(heads), _TRANSFORMERS)
    rows = out.get("class_predictor.weight")
    if rows is not None:
        counterweight = rows.new_ones(len(rows))
        counterweight[-1] = _NO_OBJECT
        out[_COUNTERWEIGHT] = counterweight
    return out


def read_openmmlab(heads: StateDict) -> StateDict:
    return {_renamed(key, _OPENMMLAB, _AUTHORS) or key: tensor for key, tensor in heads.items()}


def write_openmmlab(heads: StateDict) -> StateDict:
    return _write(heads, _OPENMMLAB)


def _write(heads: StateDict, column: int) -> StateDict:
    out: StateDict = {}
    for key, tensor in heads.items():
        name = _renamed(key, _AUTHORS, column)
        if name is None:
            raise FormatError(f"{key[:200]} is no name of Mask2Former, so no other library has one for it")
        out[name] = tensor
    return out


def _renamed(key: str, source: int, target: int) -> str | None:
    """A name of one column in another; None where no row has it."""
    for pattern, names in _PATTERNS[source]:
        if match := pattern.match(key):
            return names[target].replace("*", "".join(match.groups())) + key[match.end() :]
    return None


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\*", r"(\d+)") + ("" if name.endswith(".") else "$"))


_PATTERNS = [[(_pattern(row[column]), row) for row in _ROWS] for column in range(3)]


def _join(heads: StateDict) -> StateDict:
    """Query, key and value in one matrix. Those that do not fit together stay, so that loading names them."""
    import torch

    out: StateDict = {}
    for key, tensor in heads.items():
        match = _APART.fullmatch(key)
        if match is None:
            out[key] = tensor
            continue
        attention, _, kind = match.groups()
        parts = [heads.get(f"{attention}{letter}_proj.{kind}") for letter in "qkv"]
        whole = [part for part in parts if part is not None]
        if len(whole) == 3 and len({(part.dtype, part.shape) for part in whole}) == 1:
            out[f"{attention}in_proj_{kind}"] = torch.cat(whole)
        else:
            out[key] = tensor
    return out


def _split(heads: StateDict) -> StateDict:
    out: StateDict = {}
    for key, tensor in heads.items():
        if match := _TOGETHER.fullmatch(key):
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                out[f"{match[1]}{letter}_proj.{match[2]}"] = part
        else:
            out[key] = tensor
    return out
