"""Where a step's time goes, by kind of operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.profiler import ProfilerActivity, profile

# The first kind with a part of the operator's name counts. Peers' attention is made of the operators named after ours.
_KINDS: dict[str, tuple[str, ...]] = {
    "attention": ("window_attention", "scaled_dot_product", "softmax", "bmm", "baddbmm"),
    "products": ("addmm", "::mm", "linear", "pack_weight", "convolution", "conv2d"),
    "GELU": ("gelu",),
    "LayerNorm": ("layer_norm",),
    "adds": ("::add",),
    "copies": (
        "copy",
        "::cat",
        "clone",
        "roll",
        "index",
        "gather",
        "::pad",
        "pad_nd",
        "contiguous",
        "::to",
        "fill",
        "zero",
        "empty",
    ),
    "sums": ("::sum", "::mean"),
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time of one step went.

    Attributes:
        seconds: of a step, on the thread that called it, as the profiler counts: it makes all a little slower.
        shares: kind of operator -> its part of that time; they add up to 1, the largest first.
        operators: the ten operators that took longest -> their part.
    """

    seconds: float
    shares: dict[str, float]
    operators: dict[str, float]


def profile_step(step: Callable[[], object], calls: int = 3) -> Profile:
    """Profiles `calls` calls of a step on the CPU, after one to warm up.

    An operator's time is its own, without those that it calls.
    """
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(calls):
            step()
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(times.values())
    shares: dict[str, float] = {}
    for operator, time in times.items():
        kind = operator_kind(operator)
        shares[kind] = shares.get(kind, 0.0) + time / total
    longest = sorted(times, key=times.__getitem__, reverse=True)[:10]
    return Profile(
        seconds=total / calls / 1e6,
        shares=dict(sorted(shares.items(), key=lambda item: item[1], reverse=True)),
        operators={operator: times[operator] / total for operator in longest},
    )


def operator_kind(operator: str) -> str:
    """The kind of an operator that the profiler names, such as "products" for "aten::addmm"; "other" for the rest."""
    name = operator.lower()
    return next((kind for kind, parts in _KINDS.items() if any(part in name for part in parts)), "other")
