"""Maps that are cheap to compute again are not kept for the backward pass: they are most of what training stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def recomputed(tensor: Tensor, compute: Callable[[], Tensor]) -> Iterator[None]:
    """Inside this context autograd does not store `tensor`: the backward pass calls `compute` for it.

    Args:
        tensor: what the operations in the context take.
        compute: gives the same values again, from detached tensors that autograd stores anyway. It must not depend on
            autocast or the random generator, whose states have changed by then.
    """
    if not _is_wanted(tensor):
        yield
        return

    def unpack(packed: Tensor | torch.Size) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            return compute().view(packed)

    with torch.autograd.graph.saved_tensors_hooks(_Pack(tensor), unpack):
        yield


class _Pack:
    """Stores what it is given, but of one tensor only the shape."""

    def __init__(self, tensor: Tensor) -> None:
        self.storage, self.numel = tensor.untyped_storage()._cdata, tensor.numel()

    def __call__(self, saved: Tensor) -> Tensor | torch.Size:
        # A linear layer stores a view of its input: not the same object, but all of the same memory.
        whole = saved.numel() == self.numel and saved.is_contiguous()
        return saved.shape if whole and saved.untyped_storage()._cdata == self.storage else saved


def _is_wanted(tensor: Tensor) -> bool:
    """Compilers choose for themselves what to compute again; `torch.func` takes no such hooks.

    Where others' hooks are at work already, as in activation checkpointing, ours would keep tensors from them.
    """
    if not (torch.is_grad_enabled() and tensor.requires_grad and tensor.numel()) or torch.compiler.is_compiling():
        return False
    if not torch._C._autograd._saved_tensors_hooks_is_enabled():  # type: ignore[attr-defined]  # the stub lacks it
        return False
    others = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return others is None or isinstance(others[0], _Pack)
