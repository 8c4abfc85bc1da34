"""Whole detectors and segmenters: the backbone's names under `backbone.`, and neck and heads beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..methods import HEADS
from .format import StateDict

if TYPE_CHECKING:
    from torch import Tensor

BACKBONE = "backbone."
_HEAD = re.compile(rf"({'|'.join(HEADS)})\..+")
_NECK = re.compile(r"neck\.(lateral_convs|fpn_convs)\.\d+\..+|global_attention\..+")


def is_whole(keys: Iterable[str]) -> bool:
    """Whether these are the keys, in any format, of a whole detector or segmenter, rather than of a backbone alone."""
    return any(map(_HEAD.fullmatch, keys))


def is_beside_backbone(key: str) -> bool:
    """Whether `key` is in a neck or head; what those hold is not spelt out here."""
    return bool(_HEAD.fullmatch(key) or _NECK.fullmatch(key))


def split(state_dict: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
    """The backbone's tensors, without the prefix, and the others as they are."""
    backbone = {key.removeprefix(BACKBONE): v for key, v in state_dict.items() if key.startswith(BACKBONE)}
    return backbone, {key: v for key, v in state_dict.items() if not key.startswith(BACKBONE)}


def join(backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> StateDict:
    """`split` undone."""
    return {**{f"{BACKBONE}{key}": tensor for key, tensor in backbone.items()}, **heads}
