"""Window attention with its parameters, V1 and V2: what is around `ops.window_attention`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..ops import (
    is_plain,
    linear,
    pad_map,
    relative_position_index,
    replaceable,
    window_attention,
    without_autocast,
)
from ..sizes import Size
from .layers import project

MAX_LOGIT_SCALE = math.log(100)
Op = Callable[..., Tensor]  # `window_attention`, or `attention_weights`, which takes the same


@replaceable
class WindowAttention(nn.Module):
    """V1: dot-product scores and a learned table of relative position biases (arXiv 2103.14030, section 3.2)."""

    relative_position_index: Tensor

    def __init__(self, dim: int, num_heads: int, window_size: Size, *, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        offsets = (2 * window_size[0] - 1) * (2 * window_size[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, num_heads))
        self.register_buffer("relative_position_index", relative_position_index(window_size), persistent=False)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def relative_position_bias(self, window_size: Size) -> Float[Tensor, "heads N N"]:
        """The bias for that window: the trained one, or a smaller one, which takes the central part of the table."""
        height, width = window_size
        index = self.relative_position_index[:height, :width, :height, :width].reshape(-1)
        bias = self.relative_position_bias_table.index_select(0, index)
        return bias.t().reshape(self.num_heads, height * width, height * width)

    def forward(self, x: Float[Tensor, "B H W C"], window_size: Size, shift_size: Size) -> Float[Tensor, "B H W C"]:
        return project(self.proj, self.attend(window_attention, x, window_size, shift_size))

    def attend(self, op: Op, x: Float[Tensor, "B H W C"], window_size: Size, shift_size: Size) -> Tensor:
        """`op` of the map's queries, keys and values."""
        return _attend(op, x, self.qkv, self.relative_position_bias(window_size), window_size, shift_size)


@replaceable
class WindowAttentionV2(nn.Module):
    """V2: scaled cosine scores and a continuous relative position bias (arXiv 2111.09883, sections 3.2 and 3.3)."""

    relative_position_index: Tensor
    relative_coords: Tensor

    def __init__(
        self, dim: int, num_heads: int, window_size: Size, *, qkv_bias: bool, pretrained_window_size: Size
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        # Keys have no bias: one would change nothing but the scale of cosine scores.
        self.q_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, num_heads, bias=False))
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("relative_position_index", relative_position_index(window_size), persistent=False)
        coords = log_spaced_coords(window_size, pretrained_window_size)
        self.register_buffer("relative_coords", coords, persistent=False)

    def relative_position_bias(self, window_size: Size) -> Float[Tensor, "heads N N"]:
        """The bias for that window, in [0, 16]: the full one, or a smaller one, which takes the central offsets."""
        height, width = window_size
        with without_autocast(self.relative_coords.device.type):
            table = 16 * self.cpb_mlp(self.relative_coords).sigmoid()
        index = self.relative_position_index[:height, :width, :height, :width].reshape(-1)
        bias = table.index_select(0, index)
        return bias.t().reshape(self.num_heads, height * width, height * width)

    def qkv_bias(self) -> Float[Tensor, " qkv"] | None:
        """The projection's bias, of which the key part is zero."""
        if self.q_bias is None or self.v_bias is None:
            return None
        return torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])

    def score_scale(self) -> Float[Tensor, " heads"]:
        """What cosines are multiplied by: at most 100."""
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp().flatten()

    def forward(self, x: Float[Tensor, "B H W C"], window_size: Size, shift_size: Size) -> Float[Tensor, "B H W C"]:
        return project(self.proj, self.attend(window_attention, x, window_size, shift_size))

    def attend(self, op: Op, x: Float[Tensor, "B H W C"], window_size: Size, shift_size: Size) -> Tensor:
        """`op` of the map's queries, keys and values."""
        bias, added, scale = self.relative_position_bias(window_size), self.qkv_bias(), self.score_scale()
        return _attend(op, x, self.qkv, bias, window_size, shift_size, added, scale)


def _attend(
    op: Op,
    x: Float[Tensor, "B H W C"],
    layer: nn.Module,
    bias: Float[Tensor, "heads N N"],
    window_size: Size,
    shift_size: Size,
    added: Float[Tensor, " qkv"] | None = None,
    logit_scale: Float[Tensor, " heads"] | None = None,
) -> Float[Tensor, "B ..."]:
    """`op` of what `layer` makes of the map, `added` to each of its tokens."""

    def attend(qkv: Tensor, pad_token: Tensor | None) -> Tensor:
        return op(
            qkv, bias, window_size=window_size, shift_size=shift_size, pad_token=pad_token, logit_scale=logit_scale
        )

    if is_plain(layer, nn.Linear):
        if added is None:
            return attend(project(layer, x), layer.bias)
        total = added if layer.bias is None else layer.bias + added
        return attend(linear(x, layer.weight, total), total)
    # Stand-ins and hooks may make anything of the zeros beyond the map: they see it padded, as in the official code.
    qkv = layer(pad_map(x, window_size))
    out = attend(qkv if added is None else qkv + added.to(qkv.dtype), None)
    return out[:, : x.shape[1], : x.shape[2]]


def log_spaced_coords(window_size: Size, pretrained_window_size: Size) -> Float[Tensor, "offsets 2"]:
    """The offsets of a window as the bias MLP sees them: sign(x) log2(1 + |x|) / log2 8, with x from -8 to 8 over the
    window of pre-training (arXiv 2111.09883, section 3.3)."""
    axes = []
    for window, pretrained in zip(window_size, pretrained_window_size, strict=True):
        offsets = torch.arange(1 - window, window, dtype=torch.float64)
        x = 8 * offsets / max(pretrained - 1, 1)
        axes.append(x.sign() * torch.log2(x.abs() + 1) / math.log2(8))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1).to(torch.get_default_dtype())
