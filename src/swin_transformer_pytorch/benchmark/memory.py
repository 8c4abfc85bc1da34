"""Memory of a process on a CPU: what it has, its peak, and the peak of a step alone."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import resource
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

Step: TypeAlias = Callable[[], object]


def process_memory(field: str) -> int:
    """This process's memory in bytes: VmRSS now, VmHWM at its peak. Without /proc both are the peak."""
    try:
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))
    except OSError:
        # The kernel's own count: on Linux it would include what the parent had when it started this process.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_in_fresh_process(make_step: Callable[..., Step | None], *arguments: Any, calls: int = 1) -> int:
    """Bytes of a new process at its peak above what it had before the first call of `make_step(*arguments)()`.

    A process's peak never falls, and what one library has freed another would use again, so each gets its own.

    Args:
        make_step: a function of a module, as the new process imports it by name. It must not give None here.
        arguments: what pickle can take.
        calls: how often the step is called; the gradients of training are there from the second on.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (make_step, arguments, calls, torch.get_num_threads()))


def _peak(make_step: Callable[..., Step | None], arguments: tuple[Any, ...], calls: int, threads: int) -> int:
    torch.set_num_threads(threads)
    step = make_step(*arguments)
    assert step is not None, f"there is nothing to measure for {arguments}"
    _forget_the_past()
    before = process_memory("VmRSS")
    for _ in range(calls):
        step()
    return process_memory("VmHWM") - before


def _forget_the_past() -> None:
    """Building a model takes memory that is free again: gives it back, and lets the peak start from here.

    Where the system offers neither, the step is charged with less, or with more, than its own.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)
        try:
            with open("/proc/self/clear_refs", "w") as control:
                control.write("5")  # proc(5): resets VmHWM
        except OSError:
            pass
