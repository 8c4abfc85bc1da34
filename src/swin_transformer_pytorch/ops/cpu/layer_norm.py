"""The CPU's own layer normalisation as an operator, with a residual sum in it. It has no gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from .library import run
from .operators import check_memory, register

MULTIPLE = 16
DTYPES = (torch.float32, torch.bfloat16)


def layer_norm_into(
    out: Tensor, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None = None, *, eps: float
) -> Tensor:
    """Writes x, normalised over its last axis, into `out`, or its sum with a residual. All are contiguous.

    Args:
        out: (..., C), float32 or bfloat16, C a multiple of 16; it may be x or the residual.
        x: likewise.
        weight, bias: (C,), float32.
        residual: as x.

    Raises:
        ValueError: they are not so.
    """
    torch.ops.swin_transformer_pytorch.layer_norm_into(out, x, weight, bias, residual, eps)
    return out


def _layer_norm_into(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float) -> None:
    _check(out, x, weight, bias, residual, eps)
    check_memory(out, x, residual, dtype=x.dtype)
    check_memory(weight, bias)
    width = x.shape[-1]
    run(
        "swin_layer_norm",
        x.data_ptr(),
        weight.data_ptr(),
        bias.data_ptr(),
        None if residual is None else residual.data_ptr(),
        out.data_ptr(),
        x.numel() // width,
        width,
        eps,
        x.dtype == torch.bfloat16,
    )


def _check(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float) -> None:
    width = x.shape[-1]
    if x.dtype not in DTYPES or not width or width % MULTIPLE:
        wanted = f"float32 or bfloat16, with a multiple of {MULTIPLE} channels"
        raise ValueError(f"x is {x.dtype} with {width} channels; it must be {wanted}")
    if not weight.shape == bias.shape == (width,):
        raise ValueError(f"weight and bias are {tuple(weight.shape)} and {tuple(bias.shape)}; they must be ({width},)")
    if out.shape != x.shape or (residual is not None and residual.shape != x.shape):
        others = [tuple(tensor.shape) for tensor in (out, residual) if tensor is not None]
        raise ValueError(f"x is {tuple(x.shape)}, and out and residual are not: {others}")


register(
    "layer_norm_into(Tensor(a!) out, Tensor x, Tensor weight, Tensor bias, Tensor? residual, float eps) -> ()",
    _layer_norm_into,
    _check,
)
