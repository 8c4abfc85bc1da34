"""Functions of tensors: the shifted-window attention op, the geometry of windows, and linear layers."""

from ..window_rule import choose_window as choose_window
from .attention import (
    available_implementations as available_implementations,
    choose_implementation as choose_implementation,
    describe_kernels as describe_kernels,
    force_implementation as force_implementation,
    window_attention as window_attention,
    without_autocast as without_autocast,
)
from .convolution import (
    convolve as convolve,
    convolve_packed as convolve_packed,
    has_packed_convolution as has_packed_convolution,
    form_of as form_of,
    is_pointwise_convolution as is_pointwise_convolution,
    is_usual_convolution as is_usual_convolution,
)
from .cpu.block import (
    Block as Block,
    Embedding as Embedding,
    Layer as Layer,
    Merging as Merging,
    Norm as Norm,
    pad_keys as pad_keys,
)
from .cpu.layer_norm import layer_norm_into as layer_norm_into
from .cpu.linear import (
    depth_multiple as depth_multiple,
    linear_into as linear_into,
    pack_weight as pack_weight,
    panel_layout as panel_layout,
)
from .cpu.program import Map as Map, Program as Program, with_rows as with_rows
from .cpu.winograd import pack_kernel as pack_kernel
from .layer_norm import has_own_layer_norm as has_own_layer_norm
from .linear import gelu_then as gelu_then, has_packed_linear as has_packed_linear, linear as linear, mlp as mlp
from .padding import padding as padding
from .plain import (
    Snapshot as Snapshot,
    is_ordinary as is_ordinary,
    is_plain as is_plain,
    is_transformed as is_transformed,
    replaceable as replaceable,
)
from .recompute import after_norm as after_norm, recomputed as recomputed
from .reference import attention_weights as attention_weights
from .windows import (
    MASKED_SCORE as MASKED_SCORE,
    merge as merge,
    pad_map as pad_map,
    partition as partition,
    relative_position_index as relative_position_index,
    shift_mask as shift_mask,
)
