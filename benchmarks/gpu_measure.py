"""How benchmarks/gpu.py measures: ways of computing one thing take turns, on the device's own clock."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Step = Callable[[], object]
Tell = Callable[[list["Figure"]], object]

_WARM_UPS, _FIRST_ROUNDS = 3, 3


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One way of computing one thing.

    Attributes:
        way: which; of the first of a subject and mode `ratio` is 1.
        seconds: median of the rounds; None where it failed.
        ratio: this way's time over the first one's, the median of the ratios round by round; below 1 it is faster.
        per_second: images in a second.
        peak_bytes: allocated at the peak of a step, above what was there before.
        of_copy: of the rate of a large copy on the device, what the bytes that have to be moved come to.
        note: what else is to be known, such as of a check how large the difference was.
        failure: why there is no figure.
    """

    subject: str
    mode: str
    dtype: str
    batch_size: int
    way: str
    seconds: float | None = None
    ratio: float | None = None
    per_second: float | None = None
    peak_bytes: int | None = None
    of_copy: float | None = None
    note: str | None = None
    failure: str | None = None


def stopwatch(device: torch.device) -> Callable[[Step], float]:
    """A function that runs a step and tells its seconds: on a GPU those of the GPU, by its own events."""

    def on_gpu(step: Step) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000

    def elsewhere(step: Step) -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    return on_gpu if device.type == "cuda" else elsewhere


def measure(
    steps: dict[str, Callable[[], Step]],
    device: torch.device,
    rounds: int,
    tell: Tell = lambda figures: None,
    *,
    bytes_moved: int | None = None,
    copy_rate: float | None = None,
    images: bool = False,
    **what: Any,
) -> list[Figure]:
    """Builds the steps, warms them up, and lets them take turns. The first is what the others are compared with.

    Args:
        steps: what builds each way's step, by its name.
        device: on which.
        rounds: of all ways.
        tell: gets what is known, alone and in a few rounds, as soon as each way is ready: should the run be cut off.
        bytes_moved: what has to be read and written, at least.
        copy_rate: bytes read and written in a second by a copy.
        images: whether the batch is of images.
        what: subject, mode, dtype and batch_size of the figures.
    """
    seconds_of = stopwatch(device)
    ready: dict[str, Step] = {}
    peaks: dict[str, int | None] = {}
    times: dict[str, list[float]] = {}
    failures: list[Figure] = []

    def figures() -> list[Figure]:
        first = times.get(next(iter(steps)))
        found = []
        for way, taken in times.items():
            seconds = statistics.median(taken)
            found.append(
                Figure(
                    **what,
                    way=way,
                    seconds=seconds,
                    ratio=statistics.median(a / b for a, b in zip(taken, first, strict=True)) if first else None,
                    per_second=what["batch_size"] / seconds if images else None,
                    peak_bytes=peaks[way],
                    of_copy=bytes_moved / seconds / copy_rate if bytes_moved and copy_rate else None,
                )
            )
        return found + failures

    for way, build in steps.items():
        try:
            step = build()
            for _ in range(_WARM_UPS):
                step()
            peaks[way] = _peak(step, device)
            times[way] = [seconds_of(step) for _ in range(_FIRST_ROUNDS)]
        except Exception as error:  # a way that does not fit or compile is a result too
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            failures.append(Figure(**what, way=way, failure=reason[:200]))
        else:
            ready[way] = step
        tell(figures())
    times = {way: [] for way in ready}
    for _ in range(rounds):
        for way, step in ready.items():
            times[way].append(seconds_of(step))
    found = figures()
    del ready
    gc.collect()
    return found


def copy_rate(device: torch.device, megabytes: int) -> float:
    """Bytes read and written in a second by a copy on the device."""
    source = torch.ones(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    (figure,) = measure(
        {"copy": lambda: lambda: target.copy_(source)},
        device,
        11,
        subject="copy",
        mode="",
        dtype="uint8",
        batch_size=1,
    )
    assert figure.seconds is not None, figure.failure
    return 2 * source.numel() / figure.seconds


def _peak(step: Step, device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before
