"""What may go through the library in one call: where nothing but what this package made is at work."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops import Layer, Norm, choose_implementation, is_ordinary, is_plain, is_transformed
from .linear import FusedLinear, refuse_derivatives
from .norm import FusedNorm


def takes_map(x: Tensor) -> bool:
    """Whether a map may go through the library: compilers, transforms and dispatch modes see PyTorch's operators."""
    if torch.compiler.is_compiling() or is_transformed() or torch._C._len_torch_dispatch_stack():
        return False
    if not is_ordinary(x) or choose_implementation("cpu", training=False, dtype=x.dtype) != "cpu":
        return False
    refuse_derivatives(x)
    return True


def native_layer(layer: torch.nn.Module) -> Layer | None:
    """A linear layer as the library takes it, if it is as it was made."""
    if not is_plain(layer, FusedLinear) or layer.form != "panels":
        return None
    return Layer(panels=layer.weight, bias=layer.sums_from)


def native_norm(norm: torch.nn.Module) -> Norm | None:
    """Likewise of a norm."""
    return Norm(weight=norm.factors, bias=norm.terms, eps=norm.eps) if is_plain(norm, FusedNorm) else None
