"""Where the fast ways stand back: a layer is more than its parameters, or something wants PyTorch's own operators."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from operator import is_
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook

_Module = TypeVar("_Module", bound=nn.Module)
_forwards: dict[type[nn.Module], Callable[..., Any]] = {}


def replaceable(kind: type[_Module]) -> type[_Module]:
    """Class decorator: `is_plain` tells modules of the class from those whose `forward` was patched."""
    _forwards[kind] = kind.forward
    return kind


for _kind in (nn.Linear, nn.LayerNorm, nn.Conv2d, nn.BatchNorm2d):
    replaceable(_kind)


def is_plain(module: nn.Module, kind: type[_Module]) -> TypeGuard[_Module]:
    """Whether nothing would be left out where only a module's parameters and parts are taken.

    Fine-tuning, offloading, pruning and quantisation put modules of their own in a layer's place, or functions in its
    `forward`, or hooks on it, or on all modules. `kind` is a `replaceable` class; one derived from it is another.
    """
    return (
        type(module) is kind
        and getattr(module.forward, "__func__", None) is _forwards[kind]
        and module._compiled_call_impl is None
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
        and not _has_any_global_hook()
    )


class Snapshot:
    """What modules and all in them are, to be asked later in little time whether they still are.

    Args:
        modules: all in them are as they were made: `is_plain`, or lists.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        found = [part for module in modules for part in module.modules()]
        self._kinds = {type(one) for one in found} & _forwards.keys()
        self._states = [(one, type(one), tuple(vars(one).values()), tuple(one._modules.values())) for one in found]
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        self._hooks = [vars(one)[name] for one in found for name in hooks]

    def holds(self) -> bool:
        """Whether no attribute, part, method or hook of them was set since."""
        if any(self._hooks) or _has_any_global_hook():
            return False
        if any(kind.forward is not _forwards[kind] for kind in self._kinds):
            return False
        return all(
            type(module) is kind and _same(vars(module).values(), values) and _same(module._modules.values(), parts)
            for module, kind, values, parts in self._states
        )


def _same(now: Collection[object], then: tuple[object, ...]) -> bool:
    return len(now) == len(then) and all(map(is_, now, then))


def is_ordinary(tensor: Tensor) -> bool:
    """Whether a tensor is its memory and nothing else: numbers of a CPU, and at least one."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.numel() > 0
    )


def is_transformed() -> bool:
    """Whether `torch.func`, forward-mode differentiation or `torch.jit.trace` wants to see every operator that runs."""
    return torch.jit.is_tracing() or _derivatives_are_nested()


def is_differentiated_again(*grads: Tensor | None) -> bool:
    """In a backward pass: whether its results are differentiated in their turn (`create_graph`), or `grads` are a batch
    (`is_grads_batched`). Compiled graphs have no second derivatives, which PyTorch says."""
    if torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() or _derivatives_are_nested() or any(map(_is_batched, grads))


def _is_batched(grad: Tensor | None) -> bool:
    return grad is not None and torch._C._functorch.is_legacy_batchedtensor(grad)


def _derivatives_are_nested() -> bool:
    functorch: bool = torch._C._are_functorch_transforms_active()  # type: ignore[attr-defined]  # the stub lacks it
    return functorch or forward_ad._current_level >= 0


def plain_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Any], wanted: Sequence[bool], grad_out: Tensor
) -> list[Tensor | None]:
    """The gradients of `function` for those inputs that are wanted, in a form that can be differentiated again.

    For backward passes: what the inputs are to the rest of the graph, they are to these gradients.
    """
    with torch.enable_grad():
        # Views: where one input was made from another, the way through that one is not the function's.
        views = [x.view_as(x) if want else x for x, want in zip(inputs, wanted, strict=True)]
        out = function(*views)
    chosen = [view for view, want in zip(views, wanted, strict=True) if want]
    found = torch.autograd.grad(out, chosen, grad_out, create_graph=torch.is_grad_enabled(), allow_unused=True)
    grads = iter(found)
    return [next(grads) if want else None for want in wanted]
