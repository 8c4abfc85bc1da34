"""What a run measured, as plain data, as tables and as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .measurement import Measurement
from .picture import benchmark_picture

if TYPE_CHECKING:
    from rich.table import Table

    from ..visualize.pictures import StrPath


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
