"""Measures settings: time, round by round, and memory."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from itertools import product

import torch

from .libraries import FLOOR, OPTIMIZED, OURS, PEERS
from .machine import library_versions, measured_device, processor_name
from .measurement import Measurement
from .memory import peak_in_fresh_process
from .report import BenchmarkReport
from .setting import BenchmarkError, Setting, require_positive
from .steps import make_step
from .timing import alternate, median_ratio


def run(
    *,
    models: list[str],
    batch_sizes: list[int],
    dtypes: list[str],
    image_sizes: list[int],
    training: bool,
    rounds: int,
    peers: list[str],
    optimize: bool = False,
    floor: bool = False,
    memory: bool = False,
) -> BenchmarkReport:
    """Times inference, and a training step if `training`, of each model, batch size, dtype and image size.

    Inference in half precision has half-precision weights; training uses autocast, as users do. Weights and images are
    random. A peer that is not installed, or has no such model, is left out.

    Args:
        models: official names.
        batch_sizes: images.
        dtypes: among "float32", "bfloat16" and "float16".
        image_sizes: pixels of the images' sides.
        training: whether to measure a training step too.
        rounds: how often each is measured; the median counts.
        peers: libraries to compare with, among `PEERS`.
        optimize: whether to measure `optimize_for_inference`'s form of our model too.
        floor: whether to measure the model's own matrix products alone too.
        memory: whether to measure inference's peak memory too, as a training step's always is; on a GPU both are.

    Raises:
        BenchmarkError: for fewer than one round, image or pixel, an unknown dtype or an unknown peer.
        ConfigError: for an unknown model.
    """
    require_positive("rounds", rounds)
    for peer in peers:
        if peer not in PEERS:
            raise BenchmarkError(f"no peer {peer!r}; there are: {', '.join(PEERS)}")
    libraries = [OURS, *[OPTIMIZED] * optimize, *[FLOOR] * floor, *peers]
    modes = ("inference", "training") if training else ("inference",)
    settings = [
        Setting(model=model, mode=mode, batch_size=batch_size, dtype=dtype, image_size=(side, side))
        for model, mode, dtype, side, batch_size in product(models, modes, dtypes, image_sizes, batch_sizes)
    ]
    measurements = [m for setting in settings for m in measure([setting], libraries, rounds, memory=memory)]
    return BenchmarkReport(
        device=measured_device().type,
        processor=processor_name(),
        threads=torch.get_num_threads(),
        rounds=rounds,
        versions=library_versions(["torch", OURS, *peers]),
        measurements=tuple(measurements),
    )


def measure(
    settings: Sequence[Setting], libraries: Sequence[str], rounds: int, *, warmup: int = 2, memory: bool = False
) -> list[Measurement]:
    """Each library that has it on each setting, all taking turns.

    Args:
        settings: to be compared with each other; they are in memory at once.
        libraries: ours among them; those that are not to be had are left out.
        rounds: how often each is measured.
        warmup: calls of each before that.
        memory: whether to measure inference's peak memory too, as a training step's always is; on a GPU both are.
    """
    steps = {(s, library): step for s in settings for library in libraries if (step := make_step(s, library))}
    times = alternate(steps, rounds, warmup=warmup)
    cells = list(steps)
    steps.clear()  # on a GPU what they hold would count as others' memory

    def ratio(setting: Setting, above: str, below: str) -> float | None:
        if (setting, above) not in times or (setting, below) not in times:
            return None
        return median_ratio(times[setting, above], times[setting, below])

    return [
        Measurement(
            **dataclasses.asdict(setting),
            library=library,
            seconds=statistics.median(times[setting, library]),
            ratio=median_ratio(times[setting, OURS], times[setting, library]),
            optimized_ratio=ratio(setting, OPTIMIZED, library),
            floor_ratio=ratio(setting, library, FLOOR),
            times=tuple(times[setting, library]),
            peak_bytes=_peak_bytes(setting, library, memory),
        )
        for setting, library in cells
    ]


def _peak_bytes(setting: Setting, library: str, memory: bool) -> int | None:
    if library == FLOOR:
        return None
    if measured_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step = make_step(setting, library)
        assert step is not None, "it has been timed"
        step()
        return torch.cuda.max_memory_allocated()
    if setting.mode == "training":
        return peak_in_fresh_process(make_step, setting, library, calls=2)
    return peak_in_fresh_process(make_step, setting, library) if memory else None
