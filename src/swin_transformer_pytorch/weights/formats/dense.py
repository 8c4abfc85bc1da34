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
BACKBONE_OF_TRANSFORMERS = "model.pixel_level_module.encoder."
"""Where transformers has it in Mask2Former."""

_HEAD = re.compile(rf"({'|'.join(HEADS)})\..+")
# The others' Mask2Former.
_FOREIGN_HEAD = re.compile(r"(panoptic_head|model\.pixel_level_module|model\.transformer_module)\..+")
_NECK = re.compile(r"neck\.(lateral_convs|fpn_convs)\.\d+\..+|global_attention\..+")


def is_whole(keys: Iterable[str]) -> bool:
    """Whether these are the keys, in any format, of a whole detector or segmenter, rather than of a backbone alone."""
    return any(_HEAD.fullmatch(key) or _FOREIGN_HEAD.fullmatch(key) for key in keys)


def is_named_model(keys: Iterable[str]) -> bool:
    """Whether `model.` is a part of the names of a whole model, and no wrapper around it."""
    return any(key.startswith(BACKBONE_OF_TRANSFORMERS) for key in keys)


def is_beside_backbone(key: str) -> bool:
    """Whether an official key is in a neck or head; what those hold is not spelt out here."""
    return bool(_HEAD.fullmatch(key) or _NECK.fullmatch(key))


def split(state_dict: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
    """The backbone's tensors, without the prefix, and the others as they are."""
    backbone: StateDict = {}
    heads: StateDict = {}
    for key, tensor in state_dict.items():
        name = without_prefix(key)
        (heads if name == key else backbone)[name] = tensor
    return backbone, heads


def without_prefix(key: str) -> str:
    """A name in the backbone as the backbone alone has it; any other name as it is."""
    return key.removeprefix(BACKBONE_OF_TRANSFORMERS).removeprefix(BACKBONE)


def join(backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor], prefix: str = BACKBONE) -> StateDict:
    """`split` undone."""
    return {**{f"{prefix}{key}": tensor for key, tensor in backbone.items()}, **heads}
