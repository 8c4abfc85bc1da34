"""What is traced of a model, and what it has to equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from ..sizes import Size


class Form(NamedTuple):
    """A module for exporters beside its definition.

    Attributes:
        module: what is traced; it takes the inputs, and gives the outputs, one or a tuple.
        original: what it has to equal, taking and giving the same.
        outputs: their names.
        inputs: their names.
        complete: images and their (height, width) in pixels -> all inputs.
    """

    module: nn.Module
    original: nn.Module
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ("images",)
    complete: Callable[[Tensor, Size], tuple[Tensor, ...]] = lambda images, _: (images,)
