"""The official names (microsoft/Swin-Transformer), which are this package's own; other formats convert through them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ...sizes import Size
from . import dense, mask2former
from .format import Format, StateDict

if TYPE_CHECKING:
    from torch import Tensor

_AFFINE = r"\.(weight|bias)"
_KEY = re.compile(
    rf"""
    patch_embed\.(proj|norm){_AFFINE}
    | layers\.\d+\.blocks\.\d+\.(
        (norm1|norm2|attn\.proj|attn\.qkv|attn\.cpb_mlp\.0|mlp\.fc1|mlp\.fc2){_AFFINE}
        | attn\.(q_bias|v_bias|logit_scale|relative_position_bias_table|cpb_mlp\.2\.weight)
      )
    | layers\.\d+\.downsample\.(norm{_AFFINE}|reduction\.weight)
    | (norm|norm\d+|head){_AFFINE}
    | mask_token | decoder\.0{_AFFINE}
    """,
    re.VERBOSE,
)
_DERIVED = ("attn_mask", "relative_position_index", "relative_coords_table", "empty_weight")
_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")
_DENSE_NORM = re.compile(r"norm\d+\.(weight|bias)")


def is_official_key(key: str) -> bool:
    """Whether `key` names a parameter of a Swin backbone, classifier or SimMIM model by its official name."""
    return _KEY.fullmatch(key) is not None


def is_derived(key: str) -> bool:
    """Whether `key`, in any format, names a buffer that follows from the configuration and is recomputed."""
    return key.rpartition(".")[2] in _DERIVED


def is_masked_pretraining(key: str) -> bool:
    """Whether an official key belongs to masked pre-training (SimMIM) alone."""
    return key == "mask_token" or key.startswith("decoder.")


def is_dense_norm(key: str) -> bool:
    """Whether an official key belongs to a norm on one stage's map, as detection and segmentation have them."""
    return _DENSE_NORM.fullmatch(key) is not None


def matches(keys: set[str]) -> bool:
    return any(key.removeprefix("encoder.").startswith("layers.0.blocks.0.") for key in keys)


def to_official(state_dict: StateDict) -> StateDict:
    """Parameters under today's official names.

    SimMIM's `encoder.` prefix is left out, `rpe_mlp` (its V2 files) becomes `cpb_mlp`, and a V2 bias in one piece is
    split.
    """
    simmim = any(key.startswith("encoder.") for key in state_dict)
    out: StateDict = {}
    for key, tensor in state_dict.items():
        name = key.removeprefix("encoder.") if simmim else key
        out[name.replace(".rpe_mlp.", ".cpb_mlp.")] = tensor
    return split_v2_bias(out)


def from_official(state_dict: StateDict, _window: Size | None = None) -> StateDict:
    """The parameters alone: the official code recomputes its buffers and loads with `strict=False`.

    Of masked pre-training all but the decoder come under SimMIM's `encoder.`.
    """
    if not any(map(is_masked_pretraining, state_dict)):
        return dict(state_dict)
    return {key if key.startswith("decoder.") else f"encoder.{key}": tensor for key, tensor in state_dict.items()}


def split_v2_bias(state_dict: StateDict) -> StateDict:
    """V2 has no key bias: a `qkv.bias` in one piece becomes `q_bias` and `v_bias`. V1 stays as it is."""
    out: StateDict = {}
    for key, tensor in state_dict.items():
        attention = key.removesuffix("qkv.bias")
        if attention != key and f"{attention}logit_scale" in state_dict:
            dim = tensor.shape[0] // 3
            out[f"{attention}q_bias"] = tensor[:dim]
            out[f"{attention}v_bias"] = tensor[2 * dim :]
        else:
            out[key] = tensor
    return out


def join_v2_bias(state_dict: StateDict) -> StateDict:
    """`split_v2_bias` undone, with a key bias of zero."""
    import torch

    out: StateDict = {}
    for key, tensor in state_dict.items():
        attention = key.removesuffix("q_bias")
        if attention != key:
            v_bias = state_dict[f"{attention}v_bias"]
            out[f"{attention}qkv.bias"] = torch.cat([tensor, torch.zeros_like(tensor), v_bias])
        elif not key.endswith("v_bias"):
            out[key] = tensor
    return out


def without_masked_pretraining(state_dict: StateDict) -> StateDict:
    return {key: tensor for key, tensor in state_dict.items() if not is_masked_pretraining(key)}


def trained_windows(state_dict: Mapping[str, Tensor]) -> tuple[int, ...]:
    """V2: each stage's window of pre-training, which its stored coordinates tell; empty where none are stored.

    A stage whose map was smaller than the configured window was trained with a smaller one, and the coordinates are
    relative to it: their largest is log2(1 + 8 (w - 1) / (p - 1)) / 3 for a window w and one of pre-training p.
    """
    windows: dict[int, int] = {}
    for key, table in state_dict.items():
        match = re.search(r"layers\.(\d+)\.blocks\.\d+\.attn\.relative_coords_table$", key)
        if match and table.ndim == 4 and table.shape[1] > 1:
            furthest = 2 ** (3 * table.abs().max().item()) - 1
            windows[int(match[1])] = round(8 * (table.shape[1] - 1) / 2 / max(furthest, 1e-6)) + 1
    return tuple(windows[stage] for stage in sorted(windows))


def window_of_buffers(state_dict: Mapping[str, Tensor]) -> Size | None:
    """The largest window (height, width) that V2's coordinates were stored for, or None where none were."""
    tables = [v.shape for key, v in state_dict.items() if key.endswith(".relative_coords_table") and v.ndim == 4]
    return max((((shape[1] + 1) // 2, (shape[2] + 1) // 2) for shape in tables), default=None)


def depths_of(keys: Iterable[str]) -> tuple[int, ...]:
    """The number of blocks in each stage, as official names tell it."""
    blocks = {(int(match[1]), match[2]) for key in keys if (match := _BLOCK.match(key))}
    depths = Counter(stage for stage, _ in blocks)
    return tuple(depths[stage] for stage in sorted(depths))


FORMAT = Format(
    name="official",
    matches=matches,
    read=to_official,
    write=from_official,
    read_heads=mask2former.read_authors,
    write_whole=dense.join,
    container="model",
)
