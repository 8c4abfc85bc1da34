"""Time: steps take turns, so that the machine's noise meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

# A library's threads spin a while for more work after its step, and would take the processor from the next one's.
_PAUSE_SECONDS = 0.01


def alternate(
    steps: Mapping[Key, Callable[[], object]], rounds: int, *, warmup: int = 2, pause: float = _PAUSE_SECONDS
) -> dict[Key, list[float]]:
    """Seconds of each step in each round, in which they take turns with `pause` seconds between them, after `warmup`
    calls of each.
    """
    times: dict[Key, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(warmup):
            step()
    for _ in range(rounds):
        for name, step in steps.items():
            time.sleep(pause)
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return times


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios round by round; below 1 we are faster."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
