"""What the benchmarks of detection, segmentation and Mask2Former share: steps that take turns, memory, a table.

    python benchmarks/dense.py

only says what it is for; `detection.py`, `segmentation.py` and `mask2former.py` are run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from swin_transformer_pytorch import benchmark

RESULTS = Path(__file__).parent / "results"
Step = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to do a thing, beside another.

    Attributes:
        seconds: median of the rounds.
        ratios: of time, to each of the others by name: median, least and most of the rounds; below 1 it is faster.
        peak_bytes: a fresh process's memory at its peak above what it had before the first step; None: not measured.
    """

    name: str
    seconds: float
    ratios: dict[str, tuple[float, float, float]]
    peak_bytes: int | None


def measure(
    makers: Mapping[str, Callable[[], Step]],
    others: Sequence[str],
    rounds: int,
    *,
    memory: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """All take turns in one process, so that noise meets each; memory is measured in a process for each."""
    steps = {name: make() for name, make in makers.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(rounds + 1):
        for name, step in steps.items():
            start = clock()
            step()
            if round_number > 0:  # the first warms up
                times[name].append(clock() - start)
    del steps
    peaks = {name: peak_of(make) if memory else None for name, make in makers.items()}
    return [
        Row(
            name=name,
            seconds=statistics.median(times[name]),
            ratios={other: _ratios(times[name], times[other]) for other in others if other != name},
            peak_bytes=peaks[name],
        )
        for name in makers
    ]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a benchmark was told, the clock that counts, and that in words."""

    arguments: argparse.Namespace
    clock: Callable[[], float]
    timed: str


def start(parser: argparse.ArgumentParser, *, rounds: int, training_rounds: int) -> Run:
    """Reads what all of these benchmarks can be told, sets the number of threads and seeds."""
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--training-rounds", type=int, default=training_rounds)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the process's own time on the processor: with one thread, for a machine that is not idle",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.processor_time:
        return Run(arguments=arguments, clock=time.process_time, timed="the process's own time")
    return Run(arguments=arguments, clock=time.perf_counter, timed="by the clock")


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def peak_of(make: Callable[[], Step]) -> int:
    """A process's peak never falls, so each has one of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of, (make,))


def _peak_of(make: Callable[[], Step]) -> int:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    step = make()
    before = benchmark.process_memory("VmRSS")
    step()
    return benchmark.process_memory("VmHWM") - before


def training_step(model: nn.Module, losses: Callable[[], Iterable[torch.Tensor]]) -> Step:
    """Losses, gradients, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        torch.stack(list(losses())).sum().backward()
        optimizer.step()

    return step


def table(rows: Sequence[Row], others: Sequence[str]) -> list[str]:
    """Markdown: seconds, the median of the ratios to each of the others with their range, memory and its ratio."""
    heads = ["", "s", *(f"time / {other}" for other in others), "MB", *(f"memory / {other}" for other in others)]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    peaks = {row.name: row.peak_bytes for row in rows}
    for row in rows:
        cells = [row.name, f"{row.seconds:.2f}"]
        for other in others:
            cells.append("{:.2f} ({:.2f} to {:.2f})".format(*row.ratios[other]) if other in row.ratios else "1")
        cells.append("" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}")
        for other in others:
            peak = peaks[other]
            cells.append("" if row.peak_bytes is None or not peak else f"{row.peak_bytes / peak:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write(
    name: str, model: str, libraries: Sequence[str], parts: Mapping[str, Any], lines: Sequence[str], *, timed: str
) -> None:
    """The figures as JSON and as a page in `results/`, named after the day, with what they belong to."""
    report = {
        "model": model,
        "processor": benchmark.processor_name(),
        "threads": torch.get_num_threads(),
        "timed": timed,
        "versions": benchmark.library_versions(["torch", benchmark.OURS, *libraries]),
        **{key: [asdict(row) for row in part] if isinstance(part, list) else part for key, part in parts.items()},
    }
    versions = ", ".join(f"{library} {version}" for library, version in report["versions"].items())
    first = (
        f"{model}, float32, random weights, {report['processor']}, threads: {report['threads']}, {timed}; {versions}. "
        "Ratios are medians of those of the rounds, in which all take turns, with their range; below 1 the row is "
        "faster. Memory is at the peak above the start."
    )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.date.today().isoformat()}-{name}-cpu"
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    path.with_suffix(".md").write_text("\n".join([first, "", *lines]) + "\n")
    print(f"{path}.json, {path}.md")


if __name__ == "__main__":
    print(__doc__)
