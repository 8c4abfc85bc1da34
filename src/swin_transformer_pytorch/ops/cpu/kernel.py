"""The CPU kernel behind the attention operators: what it takes, and how it is called."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...sizes import Size
from .. import operators
from .library import functions, say_once

DTYPES = (torch.float32, torch.bfloat16)
HEAD_DIM_MULTIPLE = 8
_TYPES = " and ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
TAKES = f"{_TYPES} and heads of a multiple of {HEAD_DIM_MULTIPLE} channels"


@torch.compiler.assume_constant_result  # the log is no part of what is traced
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


def _sizes(qkv: Tensor, bias: Tensor, window_size: Sequence[int], shift_size: Sequence[int]) -> Any:
    batch, height, width, channels = qkv.shape
    heads = bias.shape[0]
    numbers = (batch, height, width, heads, channels // (3 * heads), *window_size, *shift_size)
    return (ctypes.c_int64 * 9)(*numbers)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _forward(
    qkv: Tensor,
    bias: Tensor,
    window_size: Sequence[int],
    shift_size: Sequence[int],
    pad_token: Tensor | None,
    logit_scale: Tensor | None,
    keep_log_sums: bool,
) -> tuple[Tensor, Tensor]:
    out, log_sums = operators.forward_results(qkv, bias, window_size, shift_size, pad_token, logit_scale, keep_log_sums)
    if out.numel():
        functions()["swin_window_attention_forward"](
            qkv.data_ptr(),
            bias.data_ptr(),
            _pointer(pad_token),
            _pointer(logit_scale),
            out.data_ptr(),
            log_sums.data_ptr() if keep_log_sums else None,
            _sizes(qkv, bias, window_size, shift_size),
            qkv.dtype == torch.bfloat16,
        )
    return out, log_sums


def _backward(
    grad_out: Tensor,
    qkv: Tensor,
    bias: Tensor,
    log_sums: Tensor,
    window_size: Sequence[int],
    shift_size: Sequence[int],
    pad_token: Tensor | None,
    logit_scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grads = operators.backward_results(grad_out, qkv, bias, log_sums, window_size, shift_size, pad_token, logit_scale)
    grad_qkv, grad_bias, grad_pad, grad_scale = grads
    if not grad_out.numel():  # as sums of nothing
        return grad_qkv, grad_bias.zero_(), grad_pad.zero_(), grad_scale.zero_()
    grad_out = grad_out.contiguous()
    functions()["swin_window_attention_backward"](
        grad_out.data_ptr(),
        qkv.data_ptr(),
        bias.data_ptr(),
        _pointer(pad_token),
        _pointer(logit_scale),
        log_sums.data_ptr(),
        grad_qkv.data_ptr(),
        grad_bias.data_ptr(),
        None if pad_token is None else grad_pad.data_ptr(),
        None if logit_scale is None else grad_scale.data_ptr(),
        _sizes(qkv, bias, window_size, shift_size),
        qkv.dtype == torch.bfloat16,
    )
    return grads


operators.register(operators.OPERATOR, "CPU", _forward, _backward)
