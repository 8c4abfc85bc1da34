"""The library of CPU kernels in this process: whether it is there, and how its functions are called."""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any

import torch

from . import build, prebuilt
from .build import KernelBuildError

_log = logging.getLogger(__name__)

_pointer, _size, _flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
_number, _double = ctypes.c_float, ctypes.c_double
# Each function takes besides, at the end, how a team of threads is set to work, and how many they are.
_ARGUMENTS: dict[str, list[Any]] = {
    "swin_window_attention_forward": [*[_pointer] * 7, _flag],
    "swin_window_attention_backward": [*[_pointer] * 11, _flag],
    "swin_pack": [_pointer, _size, _size, _flag, _pointer],
    "swin_linear": [*[_pointer] * 5, *[_size] * 3, _flag, _flag],
    "swin_weight_gradient": [*[_pointer] * 4, *[_size] * 3],
    "swin_layer_norm": [*[_pointer] * 5, _size, _size, _number, _flag],
    "swin_layers": [_pointer, _size, _pointer, _flag],
    "swin_gelu": [_pointer, _pointer, _size],
    "swin_gelu_backward": [_pointer, _pointer, _pointer, _size],
    "swin_winograd_pack": [_pointer, _size, _size, _flag, _pointer],
    "swin_winograd": [*[_pointer] * 4, *[_size] * 5, _flag],
    "swin_winograd_space": [_size, _size, _pointer],
    "swin_roi_align": [*[_pointer] * 3, _size, *[_pointer] * 3, *[_size] * 3, _flag, _flag],
    "swin_nms": [_pointer, _pointer, _size, _size, _double, _size, _pointer, _pointer],
    "swin_winograd_weight_gradient": [*[_pointer] * 4, *[_size] * 5],
    "swin_resample": [_pointer] * 4,
    "swin_levels": [_pointer, _size, _size, _pointer, _pointer],
    "swin_affine": [_pointer, _size, _size, _pointer, _pointer, _pointer],
}


def find(*, again: bool = False) -> Path:
    """The library for this processor: what the installation brings, or else what is built here.

    Args:
        again: build it even if an earlier process did, or failed to.

    Raises:
        KernelBuildError: it is not to be had here.
    """
    _team()
    return prebuilt.find() or build.build(again=again)


def run(name: str, *arguments: Any) -> None:
    """Calls a function of the library with torch's own threads, as many as torch would take.

    Raises:
        KernelBuildError: the library is not to be had here.
    """
    # Asking for their number is also what tells it to the runtime, in each thread anew.
    functions()[name](*arguments, _team(), torch.get_num_threads())


@functools.cache
def _team() -> int | None:
    """The address of GOMP_parallel in the runtime of OpenMP that torch itself is bound to."""
    try:
        # Symbols are looked up in all that a library depends on, so this is neither another copy nor another version.
        return ctypes.cast(ctypes.CDLL(torch._C.__file__).GOMP_parallel, _pointer).value
    except (OSError, AttributeError) as error:
        raise KernelBuildError(f"this torch has no threads of OpenMP that kernels could share: {error}") from error


@functools.cache
def functions() -> dict[str, Any]:
    """The library's functions by name. The first call builds the library if need be.

    Raises:
        KernelBuildError: it is not to be had here.
    """
    library = _load()
    try:
        found = {name: getattr(library, name) for name in _ARGUMENTS}
    except AttributeError as error:
        raise KernelBuildError(f"{library._name} cannot be used: {error}") from error
    for name, function in found.items():
        function.argtypes, function.restype = [*_ARGUMENTS[name], _pointer, _size], None
    return found


def multiplies_bfloat16() -> bool:
    """Whether the library was built with instructions for products of bfloat16, without which they are slow.

    Raises:
        KernelBuildError: it is not to be had here.
    """
    return bool(_constant("swin_multiplies_bfloat16"))


def lanes() -> int:
    """How many floats the library's vectors have.

    Raises:
        KernelBuildError: it is not to be had here.
    """
    return _constant("swin_lanes")


@functools.cache
def _constant(name: str) -> int:
    return ctypes.c_int32.in_dll(_load(), name).value


@functools.cache
def _load() -> ctypes.CDLL:
    path = find()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise KernelBuildError(f"{path} cannot be loaded: {error}") from error


@functools.cache
def why_not() -> str | None:
    """None where the kernels are ready, which builds them if need be; else the reason, in one line. Asked once a
    process.

    A reason is also logged, so that nobody gets the slower path unawares.
    """
    try:
        functions()
    except KernelBuildError as error:
        reason = f"{error}; `swin doctor --build` tries again"
        say_once(f"Swin on the CPU takes PyTorch's own operators, which are slower: {reason}")
        return str(error)
    return None


@functools.cache
def say_once(warning: str) -> None:
    """Logs a warning, but only once a process."""
    _log.warning(warning)
