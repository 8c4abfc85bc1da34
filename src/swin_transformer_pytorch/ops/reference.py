"""Shifted-window attention written to be read: the definition that every other implementation is tested against.

It has no branch on the map's height or width, and moves tokens by lists of indices only: views of padded, rolled and
cropped maps would tie a graph exported from it to sizes like the example's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..sizes import Size
from .windows import padding, shift_mask


def reference(
    qkv: Tensor, bias: Tensor, window_size: Size, shift_size: Size, pad_token: Tensor | None, logit_scale: Tensor | None
) -> Tensor:
    """See `window_attention`. Half-precision inputs are computed in float32 and the result cast back."""
    batch, height, width, channels = qkv.shape
    tokens = bias.shape[1]
    weights, v = _weights_and_values(qkv, bias, window_size, shift_size, pad_token, logit_scale)
    out = (weights @ v).transpose(1, 2).reshape(batch, -1, channels // 3)  # (B, windows * N, C)

    # The way back: which window each row and column of the map went to, and which of its tokens.
    padded_size = (height + padding(height, window_size[0]), width + padding(width, window_size[1]))
    new_y = _shifted(height, padded_size[0], -shift_size[0], qkv.device)[:, None]
    new_x = _shifted(width, padded_size[1], -shift_size[1], qkv.device)
    window = new_y // window_size[0] * (padded_size[1] // window_size[1]) + new_x // window_size[1]
    place = window * tokens + new_y % window_size[0] * window_size[1] + new_x % window_size[1]
    return out.index_select(1, place.flatten()).view(batch, height, width, channels // 3).to(qkv.dtype)


def attention_weights(
    qkv: Float[Tensor, "B H W qkv"],
    bias: Float[Tensor, "heads N N"],
    *,
    window_size: Size,
    shift_size: Size,
    pad_token: Float[Tensor, " qkv"] | None = None,
    logit_scale: Float[Tensor, " heads"] | None = None,
) -> Float[Tensor, "B down across heads N N"]:
    """What `window_attention` weights the values with, window by window: each row is a token's, and sums to 1.

    Arguments are those of `window_attention`. Windows are those of the padded and shifted map, row by row, and so are
    the tokens in each: row and column of the map are those of the window plus the shift, cyclically; what then lies
    beyond the map is padding.
    """
    weights, _ = _weights_and_values(qkv, bias, window_size, shift_size, pad_token, logit_scale)
    down, across = (-(-side // window) for side, window in zip(qkv.shape[1:3], window_size, strict=True))
    return weights.view(len(qkv), down, across, *weights.shape[1:])


def _weights_and_values(
    qkv: Tensor, bias: Tensor, window_size: Size, shift_size: Size, pad_token: Tensor | None, logit_scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Of all windows of all maps, in order: (B * windows, heads, N, N) and (B * windows, heads, N, head_dim)."""
    batch, height, width, channels = qkv.shape
    heads, tokens = bias.shape[:2]
    dtype = torch.promote_types(qkv.dtype, torch.float32)
    padded_size = (height + padding(height, window_size[0]), width + padding(width, window_size[1]))

    # Where each row and column of the padded and shifted map was before the shift, and which of those are padding.
    old_y = _shifted(padded_size[0], padded_size[0], shift_size[0], qkv.device).view(-1, 1, window_size[0], 1)
    old_x = _shifted(padded_size[1], padded_size[1], shift_size[1], qkv.device).view(1, -1, 1, window_size[1])
    inside = ((old_y < height) & (old_x < width)).flatten()  # (windows * N,): window by window, token by token
    source = torch.where(inside, (old_y * width + old_x).flatten(), 0)
    windows = qkv.to(dtype).flatten(1, 2).index_select(1, source)
    token = qkv.new_zeros(channels) if pad_token is None else pad_token
    windows = torch.where(inside[:, None], windows, token.to(dtype))  # (B, windows * N, 3 C)

    q, k, v = windows.view(-1, tokens, 3, heads, channels // (3 * heads)).permute(2, 0, 3, 1, 4).unbind()
    if logit_scale is None:
        q = q * q.shape[-1] ** -0.5
    else:
        q = F.normalize(q, dim=-1) * logit_scale.to(dtype)[:, None, None]
        k = F.normalize(k, dim=-1)
    scores = q @ k.transpose(-2, -1) + bias.to(dtype)  # (B * windows, heads, N, N)
    mask = shift_mask(padded_size, window_size, shift_size, device=qkv.device, dtype=dtype)
    scores = (scores.view(batch, -1, heads, tokens, tokens) + mask[:, None]).flatten(0, 1)
    return scores.softmax(dim=-1), v


def _shifted(length: int, cycle: int, shift: int, device: torch.device) -> Tensor:
    """0, 1, ... shifted cyclically: (length,)."""
    return (torch.arange(length, device=device) + shift) % cycle
