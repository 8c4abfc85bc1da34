"""OpenMMLab's names (mmdetection, mmsegmentation, mmpretrain), whose patch merging reads a 2x2 patch in another order.

Their `nn.Unfold` lays the four tokens of a patch inside each channel, row by row; the official code lays the channels
inside each token, column by column.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...sizes import Size
from . import mask2former
from .format import Format, StateDict
from .official import depths_of, split_v2_bias, without_masked_pretraining

if TYPE_CHECKING:
    from torch import Tensor

# Row-major and column-major order of a 2x2 patch differ by this swap, which is its own inverse.
_SWAP = [0, 2, 1, 3]
_NAMES = {
    "patch_embed.projection.": "patch_embed.proj.",
    "stages.": "layers.",
    "attn.w_msa.": "attn.",
    "ffn.layers.0.0.": "mlp.fc1.",
    "ffn.layers.1.": "mlp.fc2.",
    "head.fc.": "head.",
}


def matches(keys: set[str]) -> bool:
    return any(key.removeprefix("backbone.").startswith("stages.0.blocks.0.attn.w_msa.") for key in keys)


def to_official(state_dict: StateDict) -> StateDict:
    """Names and merging order of `nn.Unfold` undone; a classifier's last norm becomes `norm`."""
    out: StateDict = {}
    for key, tensor in state_dict.items():
        name = key.removeprefix("backbone.")
        for theirs, ours in _NAMES.items():
            name = re.sub(rf"(^|(?<=\.)){re.escape(theirs)}", ours, name)
        out[name] = tensor
    out = _reorder(out, _from_unfold)
    last = f"norm{len(depths_of(out)) - 1}."
    if "head.weight" in out:
        out = {f"norm.{key.removeprefix(last)}" if key.startswith(last) else key: v for key, v in out.items()}
    return split_v2_bias(out)


def from_official(state_dict: StateDict, _window: Size | None = None) -> StateDict:
    """Everything but the head under `backbone.`, as in a whole OpenMMLab model."""
    last = len(depths_of(state_dict)) - 1
    out: StateDict = {}
    for key, tensor in _reorder(without_masked_pretraining(state_dict), _to_unfold).items():
        if key.startswith("head."):
            out[key.replace("head.", "head.fc.", 1)] = tensor
            continue
        name = re.sub(r"^norm\.", f"norm{last}.", key)
        for theirs, ours in _NAMES.items():
            name = name.replace(ours, theirs)
        out[f"backbone.{name}"] = tensor
    return out


def write_whole(backbone: StateDict, heads: StateDict) -> StateDict:
    """But for Mask2Former the backbone alone has other names. Index buffers are left out: OpenMMLab's models make them
    themselves.
    """
    named = mask2former.write_openmmlab(heads) if mask2former.is_mask2former(heads) else heads
    return {**from_official(backbone), **named}


def _reorder(state_dict: StateDict, order: Callable[[Tensor], Tensor]) -> StateDict:
    out: StateDict = {}
    for key, tensor in state_dict.items():
        merging, _, parameter = key.rpartition("downsample.")
        reduction = state_dict.get(f"{merging}downsample.reduction.weight")
        # V2's norm follows the reduction, so its channels are not a patch's.
        is_patch = reduction is not None and parameter and tensor.shape[-1] == reduction.shape[-1]
        out[key] = order(tensor) if is_patch else tensor
    return out


def _from_unfold(tensor: Tensor) -> Tensor:
    patches = tensor.reshape(*tensor.shape[:-1], -1, 4).transpose(-1, -2)  # ... 4 C
    return patches[..., _SWAP, :].reshape(tensor.shape)


def _to_unfold(tensor: Tensor) -> Tensor:
    patches = tensor.reshape(*tensor.shape[:-1], 4, -1)[..., _SWAP, :]  # ... 4 C
    return patches.transpose(-1, -2).reshape(tensor.shape)


FORMAT = Format(
    name="openmmlab",
    matches=matches,
    read=to_official,
    write=from_official,
    read_heads=mask2former.read_openmmlab,
    write_whole=write_whole,
    container="state_dict",
)
