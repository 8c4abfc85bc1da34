"""What benchmarks/gpu.py has measured, on the disk as soon as it is known, and as tables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_measure import Figure

ROWS, BEGUN = "rows.jsonl", "begun"

# What is aimed at: (row's beginning, mode, way, the other one, the most that their ratio may be).
AIMS = (
    ("op, bfloat16", "forward", "triton", "sdpa", 0.5),
    ("op, bfloat16", "forward and backward", "triton", "sdpa", 0.6),
    ("whole, bfloat16", "inference", "ours, compiled", "timm, compiled", 0.85),
    ("whole, bfloat16", "inference", "ours, optimized, compiled", "timm, compiled", 0.85),
    ("whole, bfloat16", "inference", "ours", "timm", 0.65),
    ("whole, bfloat16", "training step", "ours, compiled", "timm, compiled", 0.85),
    ("V2, bfloat16", "inference", "ours", "timm", 0.65),
)
LEAST_OF_COPY, MOST_MEMORY = 0.6, 0.8


class Results:
    """The lines of rows.jsonl in a folder: the machine's, and one for each row, or of a row until it is whole.

    A line that was cut off as a process ended counts for nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / ROWS
        self.machine: dict[str, str] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.read()

    def read(self) -> None:
        """Takes in what other processes have written."""
        for text in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if "machine" in line:
                self.machine = line["machine"]
            else:
                self.rows[line["row"]] = line

    def belongs_to(self, machine: Mapping[str, str]) -> None:
        """Raises a `SystemExit` where the folder has another machine's figures, or notes whose they are."""
        if self.machine and self.machine != dict(machine):
            raise SystemExit(f"{self.path} is of {self.machine}, and this is {dict(machine)}: give another --out")
        if not self.machine:
            self._write({"machine": dict(machine)})

    def is_done(self, row: str, *, again: bool) -> bool:
        """Whether a row is whole; `again`: only where none of it has failed."""
        line = self.rows.get(row, {"partial": True})
        failed = line.get("failure") or any(figure["failure"] for figure in line.get("figures", ()))
        return not line.get("partial") and not (again and failed)

    def put(self, row: str, figures: Sequence[Figure], *, partial: bool = False, seconds: float | None = None) -> None:
        """Writes what a row has come to."""
        self._write({"row": row, "partial": partial, "seconds": seconds, "figures": [asdict(one) for one in figures]})

    def fail(self, row: str, failure: str) -> None:
        """Writes why a row has ended early; what was known of it stays."""
        known = self.rows.get(row, {})
        self._write({"row": row, "partial": False, "failure": failure, "figures": known.get("figures", [])})

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            # On a line of its own, whatever a killed process has left.
            file.write(f"\n{json.dumps(line)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        if "machine" in line:
            self.machine = line["machine"]
        else:
            self.rows[line["row"]] = line

    def figures(self) -> list[tuple[str, dict[str, Any]]]:
        """(row, figure) of all rows, in their order."""
        return [(row, figure) for row, line in self.rows.items() for figure in line.get("figures", ())]


def markdown(results: Results, pending: Sequence[str]) -> str:
    """All figures as a table, with what they belong to, and what is not there."""
    lines = [
        ", ".join(f"{name} {value}" for name, value in results.machine.items())
        + ". Ratio: of this way's time to that of the first of its subject and mode, the median of the ratios round by "
        "round. Of a copy: the bytes that have to be read and written, in the time that it takes, over the rate of a "
        "large copy on the device.",
        "",
        "| subject | mode | dtype | batch | way | ms | ratio | images/s | of a copy | peak MB above the start |",
        "| --- | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for _, one in results.figures():
        cells = [
            one["subject"],
            one["mode"],
            one["dtype"],
            str(one["batch_size"]),
            one["way"],
            one["failure"] or (_of(one["seconds"], "{:.3f}", 1000) or one["note"] or ""),
            _of(one["ratio"], "{:.2f}"),
            _of(one["per_second"], "{:,.0f}"),
            _of(one["of_copy"], "{:.0%}"),
            _of(one["peak_bytes"], "{:,.0f}", 1e-6),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    partial = [row for row, line in results.rows.items() if line.get("partial")]
    failed = [f"{row} ({line['failure']})" for row, line in results.rows.items() if line.get("failure")]
    for what, rows in (("Cut off, a few rounds a way", partial), ("Ended early", failed), ("Not measured", pending)):
        if rows := [row for row in rows if rows is not pending or row not in partial]:
            lines += ["", f"{what}: {'; '.join(rows)}."]
    return "\n".join(lines) + "\n"


def summary(results: Results) -> str:
    """A short table: whether it is right, and each aim with what was reached."""
    figures = results.figures()
    checks = [one for _, one in figures if one["mode"] in ("right?", "tests")]
    wrong = [f"{one['subject']}, {one['dtype']}: {one['failure']}" for one in checks if one["failure"]]
    lines = [f"right: {len(checks) - len(wrong)} of {len(checks)} checks", *wrong]
    failed = [one for _, one in figures if one["failure"] and one not in checks]
    lines += [
        f"failed: {one['subject']}, {one['mode']}, {one['dtype']}, {one['way']}: {one['failure']}" for one in failed
    ]
    lines += [f"ended early: {row}: {line['failure']}" for row, line in results.rows.items() if line.get("failure")]
    for row, mode, way, other, aim in AIMS:
        for subject, one, peer in _pairs(figures, row, mode, way, other):
            ratio = one["seconds"] / peer["seconds"]
            lines.append(_line(f"{subject}, {mode}: {way} / {other}", f"{ratio:.2f}", ratio <= aim, f"<= {aim}"))
            if mode == "training step" and one["peak_bytes"] and peer["peak_bytes"]:
                ratio = one["peak_bytes"] / peer["peak_bytes"]
                lines.append(
                    _line(
                        f"{subject}, memory: {way} / {other}", f"{ratio:.2f}", ratio <= MOST_MEMORY, f"<= {MOST_MEMORY}"
                    )
                )
    for row, one in figures:
        if row.startswith("op, bfloat16: Swin-T stage 1") and one["way"] == "triton" and one["of_copy"]:
            share = one["of_copy"]
            lines.append(
                _line(
                    f"Swin-T stage 1, {one['mode']}: of a copy's rate",
                    f"{share:.0%}",
                    share >= LEAST_OF_COPY,
                    f">= {LEAST_OF_COPY:.0%}",
                )
            )
    return "\n".join(lines)


def _pairs(
    figures: Sequence[tuple[str, dict[str, Any]]], row: str, mode: str, way: str, other: str
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, one in figures:
        if name.startswith(row) and one["mode"] == mode and one["seconds"]:
            found.setdefault(one["subject"], {})[one["way"]] = one
    return [(subject, ways[way], ways[other]) for subject, ways in found.items() if way in ways and other in ways]


def _line(what: str, value: str, reached: bool, aim: str) -> str:
    return f"{'ok  ' if reached else 'MISS'} {value:>6} ({aim})  {what}"


def _of(value: float | None, form: str, factor: float = 1) -> str:
    return "" if value is None else form.format(value * factor)
