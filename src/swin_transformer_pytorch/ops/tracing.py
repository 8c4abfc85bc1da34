"""What `torch.compile` is told of functions, without importing it: that would take as long as torch itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def constant_when_traced(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`torch.compiler.assume_constant_result`: what a graph depends on, but not how it is found out."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
