"""Maps that are cheap to compute again are not kept for the backward pass: they are most of what training stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .plain import is_plain, is_transformed


@contextmanager
def recomputed(tensor: Tensor, compute: Callable[..., Tensor], *inputs: Tensor | None) -> Iterator[None]:
    """Inside this context autograd does not store `tensor`: the backward pass calls `compute(*inputs)` for it.

    Args:
        tensor: what the operations in the context take.
        compute: gives the same values again. It must not depend on autocast or the random generator, whose states have
            changed by then.
        inputs: tensors that autograd stores anyway.

    Raises:
        RuntimeError: in the backward pass, if what it needs was changed in place since.
    """
    if not _is_wanted(tensor):
        yield
        return
    kept = [None if source is None else _Kept(source.detach()) for source in inputs]

    def unpack(packed: _Kept | torch.Size) -> Tensor:
        if isinstance(packed, _Kept):
            return packed.get()
        with torch.no_grad():
            return compute(*(None if source is None else source.get() for source in kept)).view(packed)

    with torch.autograd.graph.saved_tensors_hooks(_Pack(tensor), unpack):
        yield


def after_norm(
    norm: nn.Module, x: Float[Tensor, "*shape C"], branch: Callable[[Tensor], Tensor]
) -> Float[Tensor, "*shape D"]:
    """`branch` of the normalised map, which training does not store: the backward pass normalises once more."""
    normed: Tensor = norm(x)
    # Autocast may have widened it, and the backward pass would not.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or normed.dtype != x.dtype:
        return branch(normed)
    if not is_plain(norm, nn.LayerNorm):
        return branch(normed)
    shape, eps = norm.normalized_shape, norm.eps
    with recomputed(
        normed, lambda x, weight, bias: F.layer_norm(x, shape, weight, bias, eps), x, norm.weight, norm.bias
    ):
        return branch(normed)


class _Kept:
    """A tensor, and whether it still is what it was: autograd does not look where there are hooks."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version = tensor, tensor._version

    def get(self) -> Tensor:
        if self.tensor._version != self.version:
            raise RuntimeError(
                f"a tensor of shape {tuple(self.tensor.shape)} that the backward pass needs was modified by an inplace "
                f"operation: it is at version {self.tensor._version}, and version {self.version} was used; change a "
                "copy of it, or change it after the backward pass"
            )
        return self.tensor


class _Pack:
    """Keeps what it is given, but of one tensor only the shape."""

    def __init__(self, tensor: Tensor) -> None:
        self.storage, self.numel, self.version = tensor.untyped_storage()._cdata, tensor.numel(), tensor._version

    def __call__(self, saved: Tensor) -> _Kept | torch.Size:
        # A linear layer stores a view of its input: not the same object, but all of the same memory.
        whole = saved.numel() == self.numel and saved.is_contiguous() and saved._version == self.version
        return saved.shape if whole and saved.untyped_storage()._cdata == self.storage else _Kept(saved)


def _is_wanted(tensor: Tensor) -> bool:
    """Compilers choose for themselves what to compute again; `torch.func` takes no such hooks.

    Where others' hooks are at work already, as in activation checkpointing, ours would keep tensors from them.
    """
    if torch.compiler.is_compiling() or is_transformed() or type(tensor) is not Tensor:
        return False
    if not (torch.is_grad_enabled() and tensor.requires_grad and tensor.numel()):
        return False
    if not torch._C._autograd._saved_tensors_hooks_is_enabled():  # type: ignore[attr-defined]  # the stub lacks it
        return False
    others = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return others is None or isinstance(others[0], _Pack)
