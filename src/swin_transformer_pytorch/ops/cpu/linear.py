"""The CPU's own products as operators: with weights in panels, and with GELU or a residual sum in them.

They have no gradients: `ops.linear` has. All tensors are contiguous, and float32; for `pack_weight` of a transposed
weight and `linear_into` they may be bfloat16, with biases in float32, in which sums are. Numbers of rows and columns of
a weight are multiples of `MULTIPLE`, and in bfloat16 a product's depth is one of twice that. All else is a ValueError.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .library import find, run
from .operators import check_memory, register

MULTIPLE = 16
# Of a product's depth, by the type of its numbers: two of bfloat16 fill the place of a float.
_MULTIPLES = {torch.float32: MULTIPLE, torch.bfloat16: 2 * MULTIPLE}


@functools.cache  # as the library is loaded once, while each layer asks
def panel_layout() -> str:
    """What the order of numbers in panels depends on: they mean nothing where this is another."""
    return find().stem


def depth_multiple(dtype: torch.dtype) -> int:
    """Of what a product's depth is a multiple, for numbers of that type; 1 where there are no products of them."""
    return _MULTIPLES.get(dtype, 1)


def can_pack(weight: Tensor) -> bool:
    """Whether a weight's type and sizes are such that `pack_weight` takes it, transposed."""
    if weight.dtype not in _MULTIPLES or weight.ndim != 2 or not weight.numel():
        return False
    multiples = (MULTIPLE, _MULTIPLES[weight.dtype])
    return not any(size % multiple for size, multiple in zip(weight.shape, multiples, strict=True))


def pack_weight(weight: Tensor, *, transposed: bool) -> Tensor:
    """A weight (D, C) in panels, for `linear_into`: with `transposed` for x @ weight.T, else for x @ weight.

    The result is of the weight's type and (D, C), or (C, D): as the matrix of which the product takes the transpose.
    """
    panels: Tensor = torch.ops.swin_transformer_pytorch.pack_weight(weight.detach().contiguous(), transposed)
    return panels


def linear_into(
    out: Tensor,
    x: Tensor,
    panels: Tensor,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    gelu: bool = False,
) -> Tensor:
    """Writes x @ panels.T + bias into `out`, or GELU of it, or its sum with a residual. All are contiguous.

    Args:
        out: (..., D); not the memory of another argument.
        x: (..., C).
        panels: (D, C), from `pack_weight`.
        bias: (D,), float32.
        residual: (..., D), not together with `gelu`.
    """
    torch.ops.swin_transformer_pytorch.linear_into(out, x, panels, bias, residual, gelu)
    return out


def add_weight_gradient(weight_grad: Tensor, bias_grad: Tensor | None, grad: Tensor, x: Tensor) -> None:
    """Adds a linear layer's gradients to those given: grad.T @ x, and grad's sums over its rows. All are contiguous.

    Args:
        weight_grad: (D, C).
        bias_grad: (D,).
        grad: (..., D), of the layer's result.
        x: (..., C), what the layer took.
    """
    torch.ops.swin_transformer_pytorch.add_weight_gradient(weight_grad, bias_grad, grad, x)


def gelu_into(out: Tensor, x: Tensor) -> Tensor:
    """Writes GELU of x into `out`, which may be x. Both are contiguous."""
    torch.ops.swin_transformer_pytorch.gelu_into(out, x)
    return out


def multiply_by_gelu_derivative(grad: Tensor, x: Tensor) -> Tensor:
    """Multiplies `grad`, in its memory, by the derivative of GELU at x. Both are contiguous."""
    torch.ops.swin_transformer_pytorch.multiply_by_gelu_derivative(grad, x)
    return grad


def _pack(weight: Tensor, transposed: bool) -> Tensor:
    panels = _empty_panels(weight, transposed)
    check_memory(weight, dtype=weight.dtype)
    words, into = weight.view(torch.float32), panels.view(torch.float32)
    run("swin_pack", words.data_ptr(), *words.shape, transposed, into.data_ptr())
    return panels


def _empty_panels(weight: Tensor, transposed: bool) -> Tensor:
    if weight.dtype not in _MULTIPLES or (weight.dtype != torch.float32 and not transposed):
        raise ValueError(f"a weight to pack is {weight.dtype}; it must be float32, or bfloat16 and transposed")
    if not can_pack(weight):
        raise ValueError(
            f"a weight to pack is {tuple(weight.shape)}; in {weight.dtype} it must be multiples of {MULTIPLE} and "
            f"{_MULTIPLES[weight.dtype]}"
        )
    return weight.new_empty(weight.shape if transposed else weight.shape[::-1])


def _linear_into(
    out: Tensor, x: Tensor, panels: Tensor, bias: Tensor | None, residual: Tensor | None, gelu: bool
) -> None:
    _check_linear(out, x, panels, bias, residual, gelu)
    check_memory(out, x, panels, residual, dtype=panels.dtype)
    check_memory(bias)
    columns, depth = panels.shape
    run(
        "swin_linear",
        x.data_ptr(),
        panels.data_ptr(),
        None if bias is None else bias.data_ptr(),
        None if residual is None else residual.data_ptr(),
        out.data_ptr(),
        x.numel() // depth,
        depth,
        columns,
        gelu,
        panels.dtype == torch.bfloat16,
    )


def _check_linear(
    out: Tensor, x: Tensor, panels: Tensor, bias: Tensor | None, residual: Tensor | None, gelu: bool
) -> None:
    columns, depth = panels.shape
    if x.shape[-1] != depth:
        raise ValueError(f"x is {tuple(x.shape)}; the layer takes {depth} channels")
    if out.shape != (*x.shape[:-1], columns):
        raise ValueError(f"out is {tuple(out.shape)}; the layer makes {(*x.shape[:-1], columns)} of {tuple(x.shape)}")
    if bias is not None and bias.shape != (columns,):
        raise ValueError(f"bias is {tuple(bias.shape)}; it must be ({columns},)")
    if residual is not None and (gelu or residual.shape != out.shape):
        raise ValueError(f"a residual must be {tuple(out.shape)}, without gelu; it is {tuple(residual.shape)}")


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"two tensors of one shape are wanted, not {tuple(a.shape)} and {tuple(b.shape)}")


def _add_weight_gradient(weight_grad: Tensor, bias_grad: Tensor | None, grad: Tensor, x: Tensor) -> None:
    _check_gradient(weight_grad, bias_grad, grad, x)
    check_memory(weight_grad, bias_grad, grad, x)
    outputs, inputs = weight_grad.shape
    run(
        "swin_weight_gradient",
        grad.data_ptr(),
        x.data_ptr(),
        weight_grad.data_ptr(),
        None if bias_grad is None else bias_grad.data_ptr(),
        grad.numel() // outputs,
        outputs,
        inputs,
    )


def _check_gradient(weight_grad: Tensor, bias_grad: Tensor | None, grad: Tensor, x: Tensor) -> None:
    if weight_grad.ndim != 2 or any(size % MULTIPLE for size in weight_grad.shape) or not weight_grad.numel():
        raise ValueError(f"a weight's gradient is {tuple(weight_grad.shape)}; it must be two multiples of {MULTIPLE}")
    outputs, inputs = weight_grad.shape
    if grad.shape[-1] != outputs or x.shape != (*grad.shape[:-1], inputs):
        shapes = f"the gradient is {tuple(grad.shape)} and x {tuple(x.shape)}"
        raise ValueError(f"{shapes}; the layer makes {outputs} channels of {inputs}")
    if bias_grad is not None and bias_grad.shape != (outputs,):
        raise ValueError(f"a bias's gradient is {tuple(bias_grad.shape)}; it must be ({outputs},)")


def _gelu_into(out: Tensor, x: Tensor) -> None:
    _check_same_shape(out, x)
    check_memory(out, x)
    run("swin_gelu", x.data_ptr(), out.data_ptr(), x.numel())


def _multiply_by_gelu_derivative(grad: Tensor, x: Tensor) -> None:
    _check_same_shape(grad, x)
    check_memory(grad, x)
    run("swin_gelu_backward", grad.data_ptr(), x.data_ptr(), grad.data_ptr(), x.numel())


register("pack_weight(Tensor weight, bool transposed) -> Tensor", _pack, _empty_panels)
register(
    "linear_into(Tensor(a!) out, Tensor x, Tensor panels, Tensor? bias, Tensor? residual, bool gelu) -> ()",
    _linear_into,
    _check_linear,
)
register(
    "add_weight_gradient(Tensor(a!) weight_grad, Tensor(b!)? bias_grad, Tensor grad, Tensor x) -> ()",
    _add_weight_gradient,
    _check_gradient,
)
register("gelu_into(Tensor(a!) out, Tensor x) -> ()", _gelu_into, _check_same_shape)
register(
    "multiply_by_gelu_derivative(Tensor(a!) grad, Tensor x) -> ()", _multiply_by_gelu_derivative, _check_same_shape
)
