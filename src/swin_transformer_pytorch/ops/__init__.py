"""Pure functions of tensors: the shifted-window attention op and the geometry of windows."""

from .attention import (
    available_implementations,
    choose_implementation,
    describe_kernels,
    force_implementation,
    window_attention,
    without_autocast,
)
from .cpu.linear import linear_into, pack_weight
from .linear import has_packed_linear, linear, mlp
from .recompute import recomputed
from .windows import (
    MASKED_SCORE,
    choose_window,
    merge,
    pad_map,
    padding,
    partition,
    relative_position_index,
    shift_mask,
)

__all__ = [
    "MASKED_SCORE",
    "available_implementations",
    "choose_implementation",
    "choose_window",
    "describe_kernels",
    "force_implementation",
    "has_packed_linear",
    "linear",
    "linear_into",
    "merge",
    "mlp",
    "pack_weight",
    "pad_map",
    "padding",
    "partition",
    "recomputed",
    "relative_position_index",
    "shift_mask",
    "window_attention",
    "without_autocast",
]
