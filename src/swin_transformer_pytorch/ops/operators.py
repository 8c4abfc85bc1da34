"""Window attention as operators of PyTorch: declared once for every kernel, with autograd and with shapes for tracing.

`swin_transformer_pytorch::window_attention` is one node of a traced graph; the device of its arguments decides which
kernel runs. They are those of `ops.window_attention`; its second result, which the backward pass wants, is the
logarithm of each softmax's sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..sizes import Size
from .plain import is_differentiated_again, plain_gradients
from .reference import reference

OPERATOR = "window_attention"

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]  # of qkv, bias, padding token and logit scale

_NAMESPACE = "swin_transformer_pytorch"
_ARGUMENTS = "SymInt[2] window_size, SymInt[2] shift_size, Tensor? pad_token, Tensor? logit_scale"
_library = torch.library.Library(_NAMESPACE, "FRAGMENT")


@dataclass(frozen=True)
class Inputs:
    """The arguments that forward and backward pass share, in the form that every kernel takes; see `call`."""

    qkv: Tensor
    bias: Tensor
    window_size: Sequence[int]
    shift_size: Sequence[int]
    pad_token: Tensor | None
    logit_scale: Tensor | None

    @property
    def tensors(self) -> dict[str, Tensor | None]:
        """By their names, in this order."""
        return {"qkv": self.qkv, "bias": self.bias, "pad_token": self.pad_token, "logit_scale": self.logit_scale}


def register(
    name: str,
    key: str,
    forward: Callable[[Inputs, Tensor, Tensor], None],
    backward: Callable[[Inputs, Tensor, Tensor, Gradients], None],
) -> None:
    """Makes two functions the operator's kernels for devices with that dispatch key, such as "CPU" and "CUDA".

    Args:
        forward: from inputs to the result and the logarithms of sums, both given as empty tensors; the latter has no
            size where they are not wanted.
        backward: from inputs, logarithms of sums and the result's gradient, contiguous, to the empty `Gradients`.
    """

    def run_forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        out, log_sums = _forward_results(*arguments)
        if out.numel():
            forward(Inputs(*arguments[:-1]), out, log_sums)
        return out, log_sums

    def run_backward(grad_out: Tensor, qkv: Tensor, bias: Tensor, log_sums: Tensor, *others: Any) -> Gradients:
        grads = _backward_results(grad_out, qkv, bias, log_sums, *others)
        if grad_out.numel():
            backward(Inputs(qkv, bias, *others), log_sums, grad_out.contiguous(), grads)
        else:  # as sums of nothing
            for grad in grads:
                grad.zero_()
        return grads

    _library.impl(name, run_forward, key)
    _library.impl(f"{name}_backward", run_backward, key)


def call(
    name: str,
    qkv: Tensor,
    bias: Tensor,
    window_size: Size,
    shift_size: Size,
    pad_token: Tensor | None,
    logit_scale: Tensor | None,
) -> Tensor:
    """Runs the operator on arguments in the form that every kernel takes: contiguous; of qkv's type, or float32."""
    out: Tensor = getattr(torch.ops.swin_transformer_pytorch, name)(
        qkv.contiguous(),
        bias.to(torch.float32).contiguous(),
        window_size,
        shift_size,
        None if pad_token is None else pad_token.to(qkv.dtype).contiguous(),
        None if logit_scale is None else logit_scale.to(torch.float32).contiguous(),
        torch.is_grad_enabled(),
    )[0]
    return out


def _forward_results(qkv: Tensor, bias: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    """Empty tensors for what the forward operator returns."""
    keep_log_sums: bool = others[-1]
    out = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
    log_sums = bias.new_empty(*qkv.shape[:3], bias.shape[0]) if keep_log_sums else bias.new_empty(0)
    return out, log_sums


def _backward_results(grad_out: Tensor, qkv: Tensor, bias: Tensor, log_sums: Tensor, *others: Any) -> Gradients:
    """Empty tensors for the gradients: qkv's in its type, the others' in float32; of no size for what is not there."""
    *_, pad_token, logit_scale = others
    grad_pad = bias.new_empty(0 if pad_token is None else qkv.shape[3])
    grad_scale = bias.new_empty(0 if logit_scale is None else bias.shape[0])
    return torch.empty_like(qkv), torch.empty_like(bias), grad_pad, grad_scale


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, bias, ctx.window_size, ctx.shift_size, pad_token, logit_scale, _ = inputs
    ctx.save_for_backward(qkv, bias, output[1], pad_token, logit_scale)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def declare(name: str) -> None:
    """Defines the operator of that name and the one of its gradients, without any kernel yet."""
    backward_name = f"{name}_backward"
    _library.define(
        f"{name}(Tensor qkv, Tensor bias, {_ARGUMENTS}, bool keep_log_sums) -> (Tensor, Tensor)",
        tags=(torch.Tag.pt2_compliant_tag,),
    )
    _library.define(
        f"{backward_name}(Tensor grad_out, Tensor qkv, Tensor bias, Tensor log_sums, {_ARGUMENTS}) -> "
        "(Tensor, Tensor, Tensor, Tensor)",
        tags=(torch.Tag.pt2_compliant_tag,),
    )

    def differentiate(ctx: Any, grad_out: Tensor | None, grad_log_sums: None) -> tuple[Tensor | None, ...]:
        if grad_out is None:
            return (None,) * 7
        qkv, bias, log_sums, pad_token, logit_scale = ctx.saved_tensors
        if is_differentiated_again(grad_out):
            inputs = (qkv, bias, tuple(ctx.window_size), tuple(ctx.shift_size), pad_token, logit_scale)
            wanted = ctx.needs_input_grad[:2] + (False, False) + ctx.needs_input_grad[4:6]
            return (*plain_gradients(reference, inputs, wanted, grad_out), None)
        backward = getattr(torch.ops.swin_transformer_pytorch, backward_name)
        grad_qkv, grad_bias, grad_pad, grad_scale = backward(
            grad_out, qkv, bias, log_sums, ctx.window_size, ctx.shift_size, pad_token, logit_scale
        )
        return (
            grad_qkv,
            grad_bias,
            None,
            None,
            None if pad_token is None else grad_pad.to(pad_token.dtype),
            None if logit_scale is None else grad_scale,
            None,
        )

    torch.library.register_fake(f"{_NAMESPACE}::{name}", _forward_results, lib=_library)
    torch.library.register_fake(f"{_NAMESPACE}::{backward_name}", _backward_results, lib=_library)
    torch.library.register_autograd(f"{_NAMESPACE}::{name}", differentiate, setup_context=_save, lib=_library)


declare(OPERATOR)
