"""Shifted-window attention through PyTorch's `scaled_dot_product_attention`.

The shift, the padding and the partition are one gather of rows, their inverse one scatter, and all windows with the
same shift mask are one call. So no bias or mask grows with the batch or the map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sizes import Size
from .plan import WindowPlan


def sdpa(
    qkv: Tensor, bias: Tensor, window_size: Size, shift_size: Size, pad_token: Tensor | None, logit_scale: Tensor | None
) -> Tensor:
    """See `window_attention`."""
    plan = WindowPlan.of(qkv, window_size, shift_size)
    channels = qkv.shape[-1]
    flat = qkv.reshape(-1, channels)
    if plan.padded:
        token = qkv.new_zeros(channels) if pad_token is None else pad_token.to(qkv.dtype)
        flat = torch.cat([flat, token[None]])
    outputs = []
    for windows, group_bias in plan.biases(bias):
        rows = plan.rows[windows.start : windows.stop]
        outputs.append(_attend(flat.index_select(0, rows.flatten()), group_bias, logit_scale))
    out = torch.cat(outputs).index_select(0, plan.inverse())
    return out.view(*qkv.shape[:-1], channels // 3)


def _attend(rows: Tensor, bias: Tensor, logit_scale: Tensor | None) -> Tensor:
    """Attention inside windows of one kind: (windows * N, 3 C) -> (windows * N, C)."""
    heads, tokens = bias.shape[:2]
    q, k, v = rows.view(-1, tokens, 3, heads, rows.shape[-1] // (3 * heads)).permute(2, 0, 3, 1, 4)
    scale = None
    if logit_scale is not None:
        wide = torch.promote_types(rows.dtype, torch.float32)
        q = (F.normalize(q.to(wide), dim=-1) * logit_scale.to(wide)[:, None, None]).to(rows.dtype)
        k = F.normalize(k.to(wide), dim=-1).to(rows.dtype)
        scale = 1.0
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(rows.dtype)[None], scale=scale)
    if not torch.compiler.is_compiling() and out.grad_fn is not None and "ScaledDotProduct" in out.grad_fn.name():
        out.register_hook(_refuse_second_gradients)  # a fused kernel was taken
    return out.transpose(1, 2).reshape(-1, rows.shape[-1] // 3)


def _refuse_second_gradients(grad: Tensor) -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "PyTorch's fused attention has no second gradients (create_graph=True): run the model inside "
            'force_implementation("reference")'
        )
