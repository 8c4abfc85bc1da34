"""torchvision's names: one flat `features` list, and derived buffers that its strict loading wants to see."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ...sizes import Size
from .format import Format, FormatError, StateDict
from .official import join_v2_bias, split_v2_bias, without_masked_pretraining

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FEATURE = re.compile(r"features\.(\d+)\.(.*)")
_STAGE = re.compile(r"layers\.(\d+)\.(blocks|downsample)\.(.*)")
_FIRST = {"0.0": "patch_embed.proj", "0.2": "patch_embed.norm"}
_MLP = {".mlp.0.": ".mlp.fc1.", ".mlp.3.": ".mlp.fc2."}


def matches(keys: set[str]) -> bool:
    return any(key.startswith("features.1.0.attn.") for key in keys)


def to_official(state_dict: StateDict) -> StateDict:
    return split_v2_bias({_official_key(key): v for key, v in state_dict.items()})


def from_official(state_dict: StateDict, window_size: Size | None = None) -> StateDict:
    """Adds the position index of every block, and V2's coordinates.

    Args:
        window_size: tokens (height, width). None: square, from the size of the bias tables (V1 only).

    Raises:
        FormatError: the window cannot be known from the tensors, so it must be given.
    """
    out: StateDict = {}
    for key, tensor in join_v2_bias(without_masked_pretraining(state_dict)).items():
        name = _torchvision_key(key)
        out[name] = tensor
        attention, _, parameter = name.rpartition(".")
        if parameter == "relative_position_bias_table":
            window = window_size or _square_window(tensor)
            out[f"{attention}.relative_position_index"] = _position_index(window, tensor.device)
        elif parameter == "logit_scale":
            if window_size is None:
                raise FormatError(
                    "torchvision stores V2's coordinates, which depend on the window, and these tensors do not tell "
                    "it: give window_size (8 for torchvision's own V2 models)"
                )
            out[f"{attention}.relative_position_index"] = _position_index(window_size, tensor.device)
            out[f"{attention}.relative_coords_table"] = _coords_table(window_size).to(tensor)
    return out


def _official_key(key: str) -> str:
    match = _FEATURE.fullmatch(key)
    if match is None:
        return key
    index, rest = int(match[1]), match[2]
    if index == 0:
        place, _, parameter = rest.rpartition(".")
        first = _FIRST.get(f"0.{place}")
        return f"{first}.{parameter}" if first else key
    for theirs, ours in _MLP.items():
        rest = rest.replace(theirs, ours)
    stage = (index - 1) // 2
    return f"layers.{stage}.blocks.{rest}" if index % 2 else f"layers.{stage}.downsample.{rest}"


def _torchvision_key(key: str) -> str:
    for theirs, ours in _FIRST.items():
        if key.startswith(f"{ours}."):
            return key.replace(ours, f"features.{theirs}", 1)
    match = _STAGE.fullmatch(key)
    if match is None:
        return key
    rest = match[3]
    for theirs, ours in _MLP.items():
        rest = rest.replace(ours, theirs)
    return f"features.{2 * int(match[1]) + (1 if match[2] == 'blocks' else 2)}.{rest}"


def _square_window(table: Tensor) -> Size:
    side = math.isqrt(table.shape[0])
    if side * side != table.shape[0] or side % 2 == 0:
        raise FormatError(
            f"a bias table of {table.shape[0]} offsets is not that of a square window: give window_size (height, width)"
        )
    return ((side + 1) // 2, (side + 1) // 2)


def _position_index(window: Size, device: torch.device) -> Tensor:
    """Row of the bias table for each (query, key) pair of a window, flat: torchvision's layout."""
    import torch

    rows, columns = torch.meshgrid(torch.arange(window[0]), torch.arange(window[1]), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    down = rows[:, None] - rows[None, :] + window[0] - 1
    right = columns[:, None] - columns[None, :] + window[1] - 1
    return (down * (2 * window[1] - 1) + right).flatten().to(device)


def _coords_table(window: Size) -> Tensor:
    """V2's offsets, log-spaced over the window itself: torchvision knows no window of pre-training."""
    import torch

    axes = []
    for side in window:
        offsets = 8 * torch.arange(1 - side, side, dtype=torch.float32) / max(side - 1, 1)
        axes.append(offsets.sign() * torch.log2(offsets.abs() + 1) / 3)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)[None]  # 1 2h-1 2w-1 2


def caution(covered: Size) -> str:
    return (
        "torchvision pads a map that is smaller than its window, where the official code shrinks the window: "
        f"images under {covered[0]}x{covered[1]} pixels give other answers than there"
    )


FORMAT = Format(name="torchvision", matches=matches, read=to_official, write=from_official, caution=caution)
