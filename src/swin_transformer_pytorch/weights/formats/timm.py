"""timm's names: a stage begins with its downsample, where the official one ends with it, and the head is `head.fc`."""

from __future__ import annotations

import re

from ...sizes import Size
from .format import Format, StateDict
from .official import split_v2_bias, without_masked_pretraining

_DOWNSAMPLE = re.compile(r"layers\.(\d+)\.downsample\.")


def matches(keys: set[str]) -> bool:
    if not any(key.startswith("layers.0.blocks.0.") for key in keys):
        return False
    stages = {match[1] for key in keys if (match := _DOWNSAMPLE.match(key))}
    return any(key.startswith("head.fc.") for key in keys) or bool(stages and "0" not in stages)


def to_official(state_dict: StateDict) -> StateDict:
    return split_v2_bias({_shift(key, -1).replace("head.fc.", "head."): v for key, v in state_dict.items()})


def from_official(state_dict: StateDict, _window: Size | None = None) -> StateDict:
    return {
        re.sub(r"^head\.", "head.fc.", _shift(key, 1)): tensor
        for key, tensor in without_masked_pretraining(state_dict).items()
    }


def _shift(key: str, stages: int) -> str:
    return _DOWNSAMPLE.sub(lambda match: f"layers.{int(match[1]) + stages}.downsample.", key)


def caution(covered: Size) -> str:
    return (
        "timm decides for height and width apart whether one window covers the map, the official code for both: "
        f"images with only one side over {min(covered)} pixels give other answers than there"
    )


FORMAT = Format(name="timm", matches=matches, read=to_official, write=from_official, caution=caution)
