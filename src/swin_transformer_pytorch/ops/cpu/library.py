"""The library of CPU kernels in this process: whether it is there, and how its functions are called."""

from __future__ import annotations

import ctypes
import functools
import logging
from typing import Any

from .build import KernelBuildError, build

_log = logging.getLogger(__name__)

_pointer, _size, _flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
_ARGUMENTS = {
    "swin_window_attention_forward": [*[_pointer] * 7, _flag],
    "swin_window_attention_backward": [*[_pointer] * 11, _flag],
    "swin_pack": [_pointer, _size, _size, _flag, _pointer],
    "swin_linear": [*[_pointer] * 5, *[_size] * 3, _flag],
    "swin_gelu": [_pointer, _pointer, _size],
    "swin_gelu_backward": [_pointer, _pointer, _pointer, _size],
}


@functools.cache
def functions() -> dict[str, Any]:
    """The library's functions by name. The first call builds the library if no earlier process did.

    Raises:
        KernelBuildError: it is not to be had here.
    """
    path = build()
    try:
        library = ctypes.CDLL(str(path))
        found = {name: getattr(library, name) for name in _ARGUMENTS}
    except (OSError, AttributeError) as error:
        raise KernelBuildError(f"{path} cannot be loaded: {error}") from error
    for name, function in found.items():
        function.argtypes, function.restype = _ARGUMENTS[name], None
    return found


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
