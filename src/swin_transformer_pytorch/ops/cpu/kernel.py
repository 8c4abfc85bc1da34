"""The CPU kernel behind the attention operators: what it takes, and how it is called."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ...sizes import Size
from .. import operators
from ..tracing import constant_when_traced
from .library import run, say_once

DTYPES = (torch.float32, torch.bfloat16)
HEAD_DIM_MULTIPLE = 8
_TYPES = " and ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
TAKES = f"{_TYPES} and heads of a multiple of {HEAD_DIM_MULTIPLE} channels"


@constant_when_traced  # the log is no part of what is traced
def supports(qkv_dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the kernel takes maps of that type and heads of that many channels.

    If not, that is logged once, so that nobody gets the slower path unawares.
    """
    reason = _unsupported(qkv_dtype, head_dim)
    if reason is not None:
        say_once(f"window attention on the CPU takes PyTorch's own operators, which are slower: {reason}")
    return reason is None


def _unsupported(dtype: torch.dtype, head_dim: int) -> str | None:
    if dtype not in DTYPES:
        return f"its kernel takes {_TYPES}, not {str(dtype).removeprefix('torch.')}"
    if head_dim % HEAD_DIM_MULTIPLE:
        return f"its kernel takes heads of a multiple of {HEAD_DIM_MULTIPLE} channels, not of {head_dim}"
    return None


def cpu(
    qkv: Tensor, bias: Tensor, window_size: Size, shift_size: Size, pad_token: Tensor | None, logit_scale: Tensor | None
) -> Tensor:
    """See `window_attention`.

    Raises:
        ValueError: the kernel is not for maps of that type or heads of that size.
        KernelBuildError: it is not to be had here.
    """
    head_dim = qkv.shape[-1] // (3 * bias.shape[0])
    if (reason := _unsupported(qkv.dtype, head_dim)) is not None:
        raise ValueError(f"window attention on the CPU: {reason}; force another implementation")
    return operators.call(operators.OPERATOR, qkv, bias, window_size, shift_size, pad_token, logit_scale)


def _run(name: str, inputs: operators.Inputs, *tensors: Tensor | None) -> None:
    """The library's function of that name, on the tensors' addresses and the sizes."""
    batch, height, width, channels = inputs.qkv.shape
    heads = inputs.bias.shape[0]
    sizes = (batch, height, width, heads, channels // (3 * heads), *inputs.window_size, *inputs.shift_size)
    addresses = [tensor.data_ptr() if tensor is not None and tensor.numel() else None for tensor in tensors]
    run(name, *addresses, (ctypes.c_int64 * 9)(*sizes), inputs.qkv.dtype == torch.bfloat16)


def _forward(inputs: operators.Inputs, out: Tensor, log_sums: Tensor) -> None:
    _run("swin_window_attention_forward", inputs, *inputs.tensors.values(), out, log_sums)


def _backward(inputs: operators.Inputs, log_sums: Tensor, grad_out: Tensor, grads: operators.Gradients) -> None:
    _run("swin_window_attention_backward", inputs, grad_out, *inputs.tensors.values(), log_sums, *grads)


operators.register(operators.OPERATOR, "CPU", _forward, _backward)
