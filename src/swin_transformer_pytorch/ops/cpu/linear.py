"""The CPU's own products as operators, for float32: with weights in panels, and with GELU or a residual sum in them.

They have no gradients: `ops.linear` has. All tensors are float32 and contiguous; numbers of rows and columns of a
weight are multiples of `MULTIPLE`. Anything else is a ValueError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from .library import find, run

MULTIPLE = 16

_NAMESPACE = "swin_transformer_pytorch"
_library = torch.library.Library(_NAMESPACE, "FRAGMENT")


@functools.cache  # as the library is loaded once, while each layer asks
def panel_layout() -> str:
    """What the order of numbers in panels depends on: they mean nothing where this is another."""
    return find().stem


def why_not() -> str | None:
    """None on processors where these products are known to be the fastest (see `benchmarks/`); else what is taken."""
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX2":
        return None
    return f"PyTorch's products are taken: these are known to be faster with AVX2 only, and this is {capability}"


def pack_weight(weight: Tensor, *, transposed: bool) -> Tensor:
    """A weight (D, C) in panels, for `linear_into`: with `transposed` for x @ weight.T, else for x @ weight.

    The result's shape is (D, C), or (C, D): that of the matrix of which the product takes the transpose.
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
        bias: (D,).
        residual: (..., D), not together with `gelu`.
    """
    torch.ops.swin_transformer_pytorch.linear_into(out, x, panels, bias, residual, gelu)
    return out


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
    _check_memory(weight)
    run("swin_pack", weight.data_ptr(), *weight.shape, transposed, panels.data_ptr())
    return panels


def _empty_panels(weight: Tensor, transposed: bool) -> Tensor:
    if weight.ndim != 2 or not weight.numel() or any(size % MULTIPLE for size in weight.shape):
        raise ValueError(f"a weight to pack is {tuple(weight.shape)}; it must be two multiples of {MULTIPLE}")
    return weight.new_empty(weight.shape if transposed else weight.shape[::-1])


def _linear_into(
    out: Tensor, x: Tensor, panels: Tensor, bias: Tensor | None, residual: Tensor | None, gelu: bool
) -> None:
    _check_linear(out, x, panels, bias, residual, gelu)
    _check_memory(out, x, panels, bias, residual)
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


def _check_memory(*tensors: Tensor | None) -> None:
    for tensor in tensors:
        if tensor is not None and not (tensor.dtype == torch.float32 and tensor.is_contiguous()):
            form = f"{tensor.dtype} of shape {tuple(tensor.shape)} with strides {tensor.stride()}"
            raise ValueError(f"the CPU's own products take contiguous float32 tensors, not {form}")


def _gelu_into(out: Tensor, x: Tensor) -> None:
    _check_same_shape(out, x)
    _check_memory(out, x)
    run("swin_gelu", x.data_ptr(), out.data_ptr(), x.numel())


def _multiply_by_gelu_derivative(grad: Tensor, x: Tensor) -> None:
    _check_same_shape(grad, x)
    _check_memory(grad, x)
    run("swin_gelu_backward", grad.data_ptr(), x.data_ptr(), grad.data_ptr(), x.numel())


def _register(schema: str, kernel: Callable[..., Tensor | None], fake: Callable[..., Tensor | None]) -> None:
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, kernel, "CPU")
    torch.library.register_fake(f"{_NAMESPACE}::{name}", fake, lib=_library)


_register("pack_weight(Tensor weight, bool transposed) -> Tensor", _pack, _empty_panels)
_register(
    "linear_into(Tensor(a!) out, Tensor x, Tensor panels, Tensor? bias, Tensor? residual, bool gelu) -> ()",
    _linear_into,
    _check_linear,
)
_register("gelu_into(Tensor(a!) out, Tensor x) -> ()", _gelu_into, _check_same_shape)
_register(
    "multiply_by_gelu_derivative(Tensor(a!) grad, Tensor x) -> ()", _multiply_by_gelu_derivative, _check_same_shape
)
