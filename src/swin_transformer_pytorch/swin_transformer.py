"""The module path of 0.4.1: `compat` under its old name.

Both names are one module, so that what is patched or replaced here, as public projects do with attention, takes effect.
"""

import sys

from . import compat
from .compat import (
    CyclicShift,
    FeedForward,
    PatchMerging,
    PreNorm,
    Residual,
    StageModule,
    SwinBlock,
    SwinTransformer,
    WindowAttention,
    create_mask,
    get_relative_distances,
    swin_b,
    swin_l,
    swin_s,
    swin_t,
)

__all__ = [
    "CyclicShift",
    "FeedForward",
    "PatchMerging",
    "PreNorm",
    "Residual",
    "StageModule",
    "SwinBlock",
    "SwinTransformer",
    "WindowAttention",
    "create_mask",
    "get_relative_distances",
    "swin_b",
    "swin_l",
    "swin_s",
    "swin_t",
]

sys.modules[__name__] = compat
