"""Shifted-window attention written to be read: the definition that every other implementation is tested against.

It has no branch on the map's height or width, so that a graph exported from it takes any image size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .windows import Pair, merge, pad_map, partition, shift_mask


def reference(
    qkv: Tensor, bias: Tensor, window_size: Pair, shift_size: Pair, pad_token: Tensor | None, logit_scale: Tensor | None
) -> Tensor:
    """See `window_attention`. Half-precision inputs are computed in float32 and the result cast back."""
    height, width = qkv.shape[1:3]
    heads = bias.shape[0]
    dtype = torch.promote_types(qkv.dtype, torch.float32)

    x = pad_map(qkv.to(dtype), window_size, pad_token)
    padded_size = (x.shape[1], x.shape[2])
    x = torch.roll(x, (-shift_size[0], -shift_size[1]), dims=(1, 2))
    windows = partition(x, window_size)  # (B, windows, N, 3 C)
    q, k, v = windows.unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)  # each (B, windows, heads, N, head_dim)

    if logit_scale is None:
        q = q * q.shape[-1] ** -0.5
    else:
        q = F.normalize(q, dim=-1) * logit_scale.to(dtype)[:, None, None]
        k = F.normalize(k, dim=-1)
    scores = q @ k.transpose(-2, -1) + bias.to(dtype)
    mask = shift_mask(padded_size, window_size, shift_size, device=qkv.device, dtype=dtype)
    scores = scores + mask[:, None]
    out = scores.softmax(dim=-1) @ v

    out = merge(out.transpose(2, 3).flatten(-2), padded_size, window_size)  # (B, H, W, C), still shifted and padded
    out = torch.roll(out, shift_size, dims=(1, 2))
    return out[:, :height, :width].to(qkv.dtype)
