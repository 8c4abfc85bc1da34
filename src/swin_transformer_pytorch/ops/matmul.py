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

from ..sizes import Size
from .plain import is_differentiated_again, plain_gradients
from .plan import WindowPlan


def matmul(
    qkv: Tensor, bias: Tensor, window_size: Size, shift_size: Size, pad_token: Tensor | None, logit_scale: Tensor | None
) -> Tensor:
    """See `window_attention`."""
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
    out: Tensor = _MatmulAttention.apply(qkv, bias, pad_token, plan, scale)[0]
    return out


def _normalise(qkv: Tensor, logit_scale: Tensor) -> Tensor:
    """V2's cosine scores as plain products: q and k of length 1, q times the scale, in float32 or wider."""
    wide = torch.promote_types(qkv.dtype, torch.float32)
    q, k, v = qkv.unflatten(-1, (3, logit_scale.shape[0], -1)).unbind(-3)
    q = F.normalize(q.to(wide), dim=-1) * logit_scale.to(wide)[:, None]
    k = F.normalize(k.to(wide), dim=-1)
    return torch.stack([q.to(qkv.dtype), k.to(qkv.dtype), v], dim=-3).flatten(-3)


class _MatmulAttention(torch.autograd.Function):
    """Its second result, the gathered queries, keys and values, is for second derivatives: what the backward pass takes
    must be in the graph."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, bias: Tensor, pad_token: Tensor | None, plan: WindowPlan, scale: float
    ) -> tuple[Tensor, Tensor]:
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

        ctx.save_for_backward(packed, probabilities, bias)
        ctx.set_materialize_grads(False)
        ctx.plan, ctx.scale, ctx.heads = plan, scale, heads
        ctx.pad_dtype, ctx.shape = None if pad_token is None else pad_token.dtype, qkv.shape
        return mixed.index_select(0, plan.unpacked_rows(1, heads)).view(*qkv.shape[:-1], -1), packed

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor | None, grad_gathered: Tensor | None) -> tuple[Tensor | None, ...]:
        packed, probabilities, bias = ctx.saved_tensors
        plan, heads = ctx.plan, ctx.heads
        tokens, head_dim = packed.shape[2:]
        grad_packed, grad_bias = grad_gathered, None
        if grad_out is not None:
            source = grad_out.reshape(-1, head_dim)
            if ctx.pad_dtype is not None:  # what padding attends to is cropped, so it has no gradient
                source = torch.cat([source, source.new_zeros(heads, head_dim)])
            grad_mixed = source.index_select(0, plan.packed_rows(1, heads)).view(-1, tokens, head_dim)
            if is_differentiated_again(grad_out):
                inputs, wanted = (packed, bias, plan, ctx.scale), (True, ctx.needs_input_grad[1], False, False)
                grad_packed, grad_bias, *_ = plain_gradients(_mix, inputs, wanted, grad_mixed)
            else:
                grad_packed, grad_bias = _gradients(grad_mixed, packed, probabilities, bias, ctx.scale)
            if grad_gathered is not None and grad_packed is not None:
                grad_packed = grad_packed + grad_gathered
        if grad_packed is None:
            return (None,) * 5

        grad_qkv = grad_packed.reshape(-1, head_dim).index_select(0, plan.unpacked_rows(3, heads))
        grad_pad = None
        if ctx.pad_dtype is not None:
            padding = plan.rows == plan.size  # (windows, N)
            by_token = grad_packed.reshape(3, -1, heads, tokens, head_dim).permute(1, 3, 0, 2, 4)
            wide = torch.promote_types(by_token.dtype, torch.float32)
            grad_pad = by_token[padding].sum(0, dtype=wide).reshape(-1).to(ctx.pad_dtype)
        return grad_qkv.view(ctx.shape), grad_bias, grad_pad, None, None


def _mix(packed: Tensor, bias: Tensor, plan: WindowPlan, scale: float) -> Tensor:
    """What the forward pass makes of gathered queries, keys and values, by operators that autograd knows."""
    heads, tokens = bias.shape[:2]
    q, k, v = packed
    parts = []
    for windows, group_bias in plan.biases(bias):
        group = slice(windows.start * heads, windows.stop * heads)
        scores = (scale * q[group] @ k[group].transpose(1, 2)).view(-1, heads, tokens, tokens)
        parts.append((scores + group_bias.to(scores.dtype)).softmax(dim=-1).flatten(0, 1) @ v[group])
    return torch.cat(parts)


def _gradients(
    grad_mixed: Tensor, packed: Tensor, probabilities: Tensor, bias: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Those of `_mix` for gathered queries, keys and values, and for the bias."""
    q, k, v = packed
    grad_packed = torch.empty_like(packed)
    torch.bmm(probabilities.transpose(1, 2), grad_mixed, out=grad_packed[2])
    grad_scores = torch.bmm(grad_mixed, v.transpose(1, 2))
    grad_scores = torch._softmax_backward_data(grad_scores, probabilities, -1, probabilities.dtype)
    torch.bmm(grad_scores, k, out=grad_packed[0])
    torch.bmm(grad_scores.transpose(1, 2), q, out=grad_packed[1])
    if scale != 1:
        grad_packed[:2].mul_(scale)
    wide = torch.promote_types(grad_scores.dtype, torch.float32)
    grad_bias = grad_scores.view(-1, *bias.shape).sum(0, dtype=wide).to(bias.dtype)
    return grad_packed, grad_bias
