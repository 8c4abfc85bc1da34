"""What was measured, as plain data and as tables."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..backbone.config import Pair

if TYPE_CHECKING:
    from rich.table import Table

    from ..visualize.pictures import StrPath


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One library on one setting.

    Attributes:
        library: "swin_transformer_pytorch" is our model as it is, "optimized" what `optimize_for_inference` makes of
            it, "floor" its matrix products alone; the others are peers.
        mode: "inference", "training", or "features" for the maps of all stages.
        image_size: pixels (height, width).
        seconds: median time of one forward pass, or one training step, of the whole batch.
        ratio: our eager time over this library's, the median of all rounds; 1 for itself.
        optimized_ratio: our optimised time over this library's likewise; None where that was not measured.
        floor_ratio: this library's time over the floor's likewise; None where that was not measured.
        times: seconds of each round; those of one place ran one after the other.
        peak_bytes: on a CPU: memory of a fresh process at its peak, above what it had before the first step. On a GPU:
            allocated memory at its peak. None where it was not measured.
    """

    model: str
    library: str
    mode: str
    batch_size: int
    dtype: str
    image_size: Pair
    seconds: float
    ratio: float
    optimized_ratio: float | None
    floor_ratio: float | None
    times: tuple[float, ...]
    peak_bytes: int | None

    @property
    def setting(self) -> tuple[str, str, int, str, Pair]:
        """What the libraries of one comparison share."""
        return self.model, self.mode, self.batch_size, self.dtype, self.image_size

    @property
    def nanoseconds_per_pixel(self) -> float:
        """Of the images' pixels."""
        return 1e9 * self.seconds / (self.batch_size * self.image_size[0] * self.image_size[1])

    @property
    def spread(self) -> float:
        """The middle half of the rounds, from its shortest to its longest, in parts of the median; 0 for one round."""
        if len(self.times) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return (high - low) / self.seconds

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Measurement:
        """What `dataclasses.asdict` gave, read back from JSON, where tuples are lists."""
        height, width = fields["image_size"]
        return cls(**{**fields, "image_size": (height, width), "times": tuple(fields["times"])})


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """All measurements of a run, with the versions and the hardware that they belong to."""

    device: str
    processor: str
    threads: int
    rounds: int
    versions: dict[str, str]
    measurements: tuple[Measurement, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return dataclasses.asdict(self)

    def table(self) -> Table:
        """For a terminal: a row a setting and library."""
        from rich.table import Table

        title = f"{self.processor}, {self.threads} threads, {self.rounds} rounds"
        table = Table(title=title, caption=", ".join(f"{name} {version}" for name, version in self.versions.items()))
        columns = _columns_for(self.measurements)
        for column in columns:
            table.add_column(column, justify="left" if column in _WORDS else "right")
        for m in self.measurements:
            table.add_row(*(_COLUMNS[column](m) for column in columns))
        return table

    def save_picture(self, path: StrPath) -> None:
        """Bars for the first image size; with several sizes, lines of the first model and batch size over them too."""
        from .picture import benchmark_picture

        first = self.measurements[0]
        bars = [m for m in self.measurements if m.image_size == first.image_size]
        line = (first.model, first.mode, first.batch_size)
        curve = [m for m in self.measurements if (m.model, m.mode, m.batch_size) == line]
        if len({m.image_size for m in curve}) == 1:
            curve = []
        title = f"{self.processor}, {self.threads} threads, medians of {self.rounds} rounds"
        benchmark_picture(bars, curve, path, title=title)


def markdown_table(measurements: Sequence[Measurement]) -> str:
    """A row a setting and library; columns in which nothing was measured are left out."""
    columns = _columns_for(measurements)
    lines = [
        f"| {' | '.join(columns)} |",
        f"| {' | '.join('---' if column in _WORDS else '---:' for column in columns)} |",
    ]
    for m in measurements:
        lines.append(f"| {' | '.join(_COLUMNS[column](m) for column in columns)} |")
    return "\n".join(lines) + "\n"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


_WORDS = ("model", "mode", "dtype", "library")
_COLUMNS: dict[str, Callable[[Measurement], str]] = {
    "model": lambda m: m.model,
    "mode": lambda m: m.mode,
    "pixels": lambda m: f"{m.image_size[0]}x{m.image_size[1]}",
    "batch": lambda m: str(m.batch_size),
    "dtype": lambda m: m.dtype,
    "library": lambda m: m.library,
    "ms": lambda m: f"{1000 * m.seconds:.1f}",
    "spread": lambda m: f"{m.spread:.0%}",
    "images/s": lambda m: f"{m.batch_size / m.seconds:.1f}",
    "ours / it": lambda m: _ratio(m.ratio),
    "optimized / it": lambda m: _ratio(m.optimized_ratio),
    "it / floor": lambda m: _ratio(m.floor_ratio),
    "peak MB": lambda m: "" if m.peak_bytes is None else f"{m.peak_bytes / 1e6:.0f}",
}
_OPTIONAL = ("optimized / it", "it / floor", "peak MB")


def _columns_for(measurements: Sequence[Measurement]) -> list[str]:
    return [name for name, cell in _COLUMNS.items() if name not in _OPTIONAL or any(cell(m) for m in measurements)]
