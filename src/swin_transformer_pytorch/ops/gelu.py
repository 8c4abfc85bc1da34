"""The exact GELU (arXiv 1606.08415): on CPUs by a kernel of ours, where PyTorch's computes it one number at a time."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .cpu import kernel as cpu_kernel
from .cpu.build import build

_NAMESPACE = "swin_transformer_pytorch"
_library = torch.library.Library(_NAMESPACE, "FRAGMENT")


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x times the normal distribution up to x. Where the kernel takes `x`, gradients of gradients are not to be had."""
    if gelu_has_kernel(x) and x.is_contiguous():
        out: Tensor = torch.ops.swin_transformer_pytorch.gelu(x)
        return out
    return F.gelu(x)


def gelu_(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same in place, and the fastest for what autograd does not follow."""
    if not gelu_has_kernel(x) or not x.is_contiguous() or x.requires_grad:
        out: Tensor = torch.ops.aten.gelu_(x)
        return out
    torch.ops.swin_transformer_pytorch.gelu_(x)
    if not x.is_inference():  # tells autograd, lest it use what it stored of `x` before
        torch.autograd.graph.increment_version(x)
    return x


def gelu_has_kernel(x: Tensor) -> bool:
    """Whether the kernel takes contiguous tensors of the kind of `x`, here and now.

    Compilers fuse GELU themselves, and transforms of `torch.func` need what PyTorch's can do.
    """
    return (
        not torch.compiler.is_compiling()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in cpu_kernel.DTYPES
        and not torch._C._are_functorch_transforms_active()
        and cpu_kernel.why_not() is None
    )


@functools.cache
def _functions() -> tuple[Any, Any]:
    """The library's two functions."""
    library = ctypes.CDLL(str(build()))
    forward, backward = library.swin_gelu_forward, library.swin_gelu_backward
    pointer = ctypes.c_void_p
    forward.argtypes = [pointer, pointer, ctypes.c_int64, ctypes.c_int32]
    backward.argtypes = [pointer, pointer, pointer, ctypes.c_int64, ctypes.c_int32]
    forward.restype = backward.restype = None
    return forward, backward


def _forward(x: Tensor) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    _functions()[0](x.data_ptr(), out.data_ptr(), x.numel(), x.dtype == torch.bfloat16)
    return out


def _forward_in_place(x: Tensor) -> None:
    _functions()[0](x.data_ptr(), x.data_ptr(), x.numel(), x.dtype == torch.bfloat16)


def _backward(grad_out: Tensor, x: Tensor) -> Tensor:
    grad_out, x = grad_out.contiguous(), x.contiguous()
    grad = torch.empty_like(x)
    _functions()[1](grad_out.data_ptr(), x.data_ptr(), grad.data_ptr(), x.numel(), x.dtype == torch.bfloat16)
    return grad


def _fake(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _differentiate(ctx: Any, grad_out: Tensor) -> Tensor:
    grad: Tensor = torch.ops.swin_transformer_pytorch.gelu_backward(grad_out, ctx.saved_tensors[0])
    return grad


_tags = (torch.Tag.pt2_compliant_tag,)
_library.define("gelu(Tensor x) -> Tensor", tags=_tags)
_library.define("gelu_(Tensor(a!) x) -> ()", tags=_tags)
_library.define("gelu_backward(Tensor grad_out, Tensor x) -> Tensor", tags=_tags)
_library.impl("gelu", _forward, "CPU")
_library.impl("gelu_", _forward_in_place, "CPU")
_library.impl("gelu_backward", _backward, "CPU")
torch.library.register_fake(f"{_NAMESPACE}::gelu", _fake, lib=_library)
torch.library.register_fake(f"{_NAMESPACE}::gelu_", lambda x: None, lib=_library)
torch.library.register_fake(f"{_NAMESPACE}::gelu_backward", lambda grad_out, x: _fake(x), lib=_library)
torch.library.register_autograd(f"{_NAMESPACE}::gelu", _differentiate, setup_context=_save, lib=_library)
