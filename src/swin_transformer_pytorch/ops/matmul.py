"""Shifted-window attention for training on a CPU: batched products with a backward pass written by hand.

`scaled_dot_product_attention` has no fused CPU kernel for a bias with a gradient, and autograd would scatter-add where
a gather does. Here one gather of rows of head_dim numbers replaces shift, padding, partition and the split into heads,
and its transpose is again a gather. Only the gathered queries, keys and values and the probabilities are kept.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..sizes import Size
from .plan import WindowPlan


def matmul(
    qkv: Tensor, bias: Tensor, window_size: Size, shift_size: Size, pad_token: Tensor | None, logit_scale: Tensor | None
) -> Tensor:
    """See `window_attention`. It has a first derivative only."""
    heads = bias.shape[0]
    head_dim = qkv.shape[-1] // (3 * heads)
    scale = head_dim**-0.5
    if logit_scale is not None:
        qkv = _normalise(qkv, logit_scale)
        pad_token = None if pad_token is None else _normalise(pad_token.to(qkv.dtype), logit_scale)
        scale = 1.0
    plan = WindowPlan.of(qkv, window_size, shift_size)
    if not plan.padded:
        pad_token = None
    elif pad_token is None:
        pad_token = qkv.new_zeros(qkv.shape[-1])
    out: Tensor = _MatmulAttention.apply(qkv, bias, pad_token, plan, scale)
    return out


def _normalise(qkv: Tensor, logit_scale: Tensor) -> Tensor:
    """V2's cosine scores as plain products: q and k of length 1, q times the scale, in float32 or wider."""
    wide = torch.promote_types(qkv.dtype, torch.float32)
    q, k, v = qkv.unflatten(-1, (3, logit_scale.shape[0], -1)).unbind(-3)
    q = F.normalize(q.to(wide), dim=-1) * logit_scale.to(wide)[:, None]
    k = F.normalize(k.to(wide), dim=-1)
    return torch.stack([q.to(qkv.dtype), k.to(qkv.dtype), v], dim=-3).flatten(-3)


class _MatmulAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, bias: Tensor, pad_token: Tensor | None, plan: WindowPlan, scale: float
    ) -> Tensor:
        heads, tokens = bias.shape[:2]
        source = qkv.reshape(-1, qkv.shape[-1] // (3 * heads))
        if pad_token is not None:
            source = torch.cat([source, pad_token.to(qkv.dtype).view(3 * heads, -1)])
        packed = source.index_select(0, plan.packed_rows(3, heads)).view(3, -1, tokens, source.shape[1])
        q, k, v = packed

        scores = q.new_empty(q.shape[0], tokens, tokens)
        for windows, group_bias in plan.biases(bias):
            start, stop = windows.start * heads, windows.stop * heads
            group = scores[start:stop]
            group.view(-1, heads, tokens, tokens).copy_(group_bias)
            group.baddbmm_(q[start:stop], k[start:stop].transpose(1, 2), alpha=scale)
        probabilities = scores.softmax(dim=-1)
        mixed = torch.bmm(probabilities, v).view(-1, source.shape[1])

        ctx.save_for_backward(packed, probabilities)
        ctx.plan, ctx.scale, ctx.heads = plan, scale, heads
        ctx.bias_dtype, ctx.pad_dtype = bias.dtype, pad_token.dtype if pad_token is not None else None
        return mixed.index_select(0, plan.unpacked_rows(1, heads)).view(*qkv.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        packed, probabilities = ctx.saved_tensors
        plan, heads = ctx.plan, ctx.heads
        q, k, v = packed
        tokens, head_dim = v.shape[1:]
        source = grad_out.reshape(-1, head_dim)
        if ctx.pad_dtype is not None:  # what padding attends to is cropped, so it has no gradient
            source = torch.cat([source, source.new_zeros(heads, head_dim)])
        grad_mixed = source.index_select(0, plan.packed_rows(1, heads)).view(-1, tokens, head_dim)

        grad_packed = torch.empty_like(packed)
        torch.bmm(probabilities.transpose(1, 2), grad_mixed, out=grad_packed[2])
        grad_scores = torch.bmm(grad_mixed, v.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_scores, probabilities, -1, probabilities.dtype)
        torch.bmm(grad_scores, k, out=grad_packed[0])
        torch.bmm(grad_scores.transpose(1, 2), q, out=grad_packed[1])
        if ctx.scale != 1:
            grad_packed[:2].mul_(ctx.scale)

        wide = torch.promote_types(grad_scores.dtype, torch.float32)
        grad_bias = grad_scores.view(-1, heads, tokens, tokens).sum(0, dtype=wide).to(ctx.bias_dtype)
        grad_qkv = grad_packed.view(-1, head_dim).index_select(0, plan.unpacked_rows(3, heads))
        grad_pad = None
        if ctx.pad_dtype is not None:
            padding = plan.rows == plan.size  # (windows, N)
            by_token = grad_packed.view(3, -1, heads, tokens, head_dim).permute(1, 3, 0, 2, 4)
            grad_pad = by_token[padding].sum(0, dtype=wide).flatten().to(ctx.pad_dtype)
        return grad_qkv.view(*grad_out.shape[:-1], -1), grad_bias, grad_pad, None, None
