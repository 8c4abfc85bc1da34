"""Swin-T beside timm, torchvision and transformers: inference and a training step, with the memory it takes.

    python benchmarks/classification.py

writes the figures, as JSON and as a table, to benchmarks/results/, named after the day. It takes about ten minutes on
two cores; leave the machine alone meanwhile.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path

from swin_transformer_pytorch import benchmark

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    report = benchmark.run(
        models=["swin_tiny_patch4_window7_224"],
        batch_sizes=[1, 8],
        dtypes=["float32", "bfloat16"],
        image_size=224,
        training=True,
        rounds=9,
        peers=["timm", "torchvision", "transformers"],
    )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.date.today().isoformat()}-classification-{report.device}"
    path.with_suffix(".json").write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(report))
    print(f"{path}.json, {path}.md")


def markdown(report: benchmark.BenchmarkReport) -> str:
    """The figures as a table, with what they belong to."""
    lines = [
        f"{report.image_size} pixels, {report.processor}, {report.threads} threads, medians of {report.rounds} rounds; "
        + ", ".join(f"{name} {version}" for name, version in report.versions.items())
        + ". `ours / it`: the median of the ratios round by round; below 1 we are faster.",
        "",
        "| model | mode | dtype | batch | library | ms | ours / it | peak memory above the start, MB |",
        "| --- | --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for m in report.measurements:
        memory = "" if m.peak_bytes is None else f"{m.peak_bytes / 1e6:.0f}"
        cells = [m.model, m.mode, m.dtype, str(m.batch_size), m.library, f"{1000 * m.seconds:.0f}", f"{m.ratio:.2f}"]
        lines.append(f"| {' | '.join([*cells, memory])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
