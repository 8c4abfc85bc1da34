"""Functions of tensors: the shifted-window attention op, the geometry of windows, and linear layers."""

from ..window_rule import choose_window
from .attention import (
    available_implementations,
    choose_implementation,
    describe_kernels,
    force_implementation,
    window_attention,
    without_autocast,
)
from .cpu.linear import linear_into, pack_weight, panel_layout
from .linear import gelu_then, has_packed_linear, linear, mlp
from .padding import padding
from .plain import is_plain, is_transformed, replaceable
from .recompute import recomputed
from .windows import (
    MASKED_SCORE,
    merge,
    pad_map,
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
    "gelu_then",
    "has_packed_linear",
    "is_plain",
    "is_transformed",
    "linear",
    "linear_into",
    "merge",
    "mlp",
    "pack_weight",
    "pad_map",
    "padding",
    "panel_layout",
    "partition",
    "recomputed",
    "relative_position_index",
    "replaceable",
    "shift_mask",
    "window_attention",
    "without_autocast",
]
