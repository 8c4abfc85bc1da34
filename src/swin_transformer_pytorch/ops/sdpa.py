"""Shifted-window attention through PyTorch's `scaled_dot_product_attention`.

The shift, the padding and the partition are one gather of rows, their inverse one scatter. Windows are sorted by
which seams of the cyclic shift they contain: at most four kinds, each one call with one (heads, N, N) bias for all its
windows. So no bias or mask grows with the batch or the map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .windows import Pair, shift_mask


def _token_rows(size: Pair, window_size: Pair, shift_size: Pair, device: torch.device) -> Tensor:
    """Each window's tokens as rows of the flattened map: (window rows, window columns, N); padding is -1."""
    lines = []
    for length, window, shift in zip(size, window_size, shift_size, strict=True):
        padded = length + -length % window
        position = (torch.arange(padded, device=device) + shift) % padded
        lines.append(torch.where(position < length, position, -1).view(-1, window))
    rows, columns = lines[0][:, None, :, None], lines[1][None, :, None, :]
    return torch.where((rows >= 0) & (columns >= 0), rows * size[1] + columns, -1).flatten(2)


def _window_groups(rows: int, columns: int, shift_size: Pair) -> list[tuple[slice, slice, Pair]]:
    """Window rows, window columns, and the shift whose seam those windows contain. Empty groups are left out."""
    split_rows = [(slice(0, rows - 1), 0), (slice(rows - 1, rows), shift_size[0])]
    split_columns = [(slice(0, columns - 1), 0), (slice(columns - 1, columns), shift_size[1])]
    return [
        (y, x, (shift_y, shift_x))
        for y, shift_y in (split_rows if shift_size[0] else [(slice(0, rows), 0)])
        for x, shift_x in (split_columns if shift_size[1] else [(slice(0, columns), 0)])
        if y.stop > y.start and x.stop > x.start
    ]


def sdpa(
    qkv: Tensor, bias: Tensor, window_size: Pair, shift_size: Pair, pad_token: Tensor | None, logit_scale: Tensor | None
) -> Tensor:
    """See `window_attention`."""
    batch, height, width, channels = qkv.shape
    heads, tokens = bias.shape[0], bias.shape[1]
    token_rows = _token_rows((height, width), window_size, shift_size, qkv.device)
    first_row = torch.arange(batch, device=qkv.device)[:, None, None] * (height * width)

    flat = qkv.reshape(-1, channels)
    if height % window_size[0] or width % window_size[1]:
        token = qkv.new_zeros(channels) if pad_token is None else pad_token.to(qkv.dtype)
        flat = torch.cat([flat, token[None]])

    outputs, places = [], []
    for window_rows, window_columns, seam in _window_groups(*token_rows.shape[:2], shift_size):
        group = token_rows[window_rows, window_columns].reshape(1, -1, tokens)
        place = torch.where(group >= 0, group + first_row, batch * height * width).flatten()
        mixed = _attend(flat.index_select(0, place), bias, window_size, seam, logit_scale)
        outputs.append(mixed)
        places.append(place)

    out = qkv.new_empty(batch * height * width + 1, channels // 3)
    out = out.index_copy(0, torch.cat(places), torch.cat(outputs))
    return out[:-1].view(batch, height, width, channels // 3)


def _attend(rows: Tensor, bias: Tensor, window_size: Pair, seam: Pair, logit_scale: Tensor | None) -> Tensor:
    """Attention inside windows of one kind: (windows * N, 3 C) -> (windows * N, C)."""
    heads, tokens = bias.shape[:2]
    q, k, v = rows.view(-1, tokens, 3, heads, rows.shape[-1] // (3 * heads)).permute(2, 0, 3, 1, 4)
    scale = None
    if logit_scale is not None:
        wide = torch.promote_types(rows.dtype, torch.float32)
        q = (F.normalize(q.to(wide), dim=-1) * logit_scale.to(wide)[:, None, None]).to(rows.dtype)
        k = F.normalize(k.to(wide), dim=-1).to(rows.dtype)
        scale = 1.0
    if any(seam):
        bias = bias + shift_mask(window_size, window_size, seam, device=rows.device, dtype=bias.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(rows.dtype)[None], scale=scale)
    return out.transpose(1, 2).reshape(-1, rows.shape[-1] // 3)
