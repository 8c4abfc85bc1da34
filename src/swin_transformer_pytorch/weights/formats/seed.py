"""swin-transformer-pytorch 0.4.1: another architecture under the same name, so its weights fit `compat` alone."""

from __future__ import annotations

from .format import Format


def matches(keys: set[str]) -> bool:
    return any(key.startswith("stage1.patch_partition.linear.") for key in keys)


FORMAT = Format(name="seed", matches=matches, foreign="swin-transformer-pytorch 0.4.1", module="compat")
