"""Which parameters of a model have rows for classes: its heads say so, each of its own layers."""

from __future__ import annotations

from torch import nn


def names_of_class_parameters(model: nn.Module, *heads: type[nn.Module]) -> tuple[str, ...]:
    """Those of the layers that heads of these kinds name in `class_layers`, the one with a row a class first."""
    return tuple(
        f"{place}.{layer}.{name}"
        for place, head in model.named_modules()
        if isinstance(head, heads)
        for layer in getattr(head, "class_layers", ())
        for name, _ in head.get_submodule(layer).named_parameters()
    )
