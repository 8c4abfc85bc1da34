"""How functions of the library become operators of PyTorch, and what they all ask of a tensor's memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_NAMESPACE = "swin_transformer_pytorch"
_library = torch.library.Library(_NAMESPACE, "FRAGMENT")


def register(schema: str, kernel: Callable[..., Tensor | None], fake: Callable[..., Tensor | None]) -> None:
    """Defines an operator without gradients: its kernel on CPUs, and what it comes to without numbers."""
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, kernel, "CPU")
    torch.library.register_fake(f"{_NAMESPACE}::{name}", fake, lib=_library)


def check_memory(*tensors: Tensor | None, dtype: torch.dtype = torch.float32) -> None:
    """Raises ValueError where a tensor is not of that type and contiguous."""
    for tensor in tensors:
        if tensor is not None and not (tensor.dtype == dtype and tensor.is_contiguous()):
            form = f"{tensor.dtype} of shape {tuple(tensor.shape)} with strides {tensor.stride()}"
            raise ValueError(f"the CPU's own kernels take contiguous {dtype} tensors here, not {form}")
