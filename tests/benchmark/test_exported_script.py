"""benchmarks/exported.py: what its report says of what was measured, and of what was not."""

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield importlib.import_module("exported")
    sys.modules.pop("exported")


@pytest.mark.parametrize(
    ("any_size", "int8", "first", "second"),
    [
        ([1.1, 1.2, 1.1], [0.3, 0.4, 0.4], "1.100 | <= 1.15 | met", "0.333 | <= 0.45 | met"),
        (
            [1.3, 1.38, 9.0],
            [0.69, 1.3, 7.0],
            "1.380 | <= 1.15 | **missed** by 20%",
            "0.778 | <= 0.45 | **missed** by 73%",
        ),
        ([1.0, 1.0, 1.0], None, "1.000 | <= 1.15 | met", "not measured"),
    ],
)
def test_aims_are_told_by_ratios_round_by_round(
    exported: Any, any_size: list[float], int8: list[float] | None, first: str, second: str
) -> None:
    times = {exported.openvino_row(exported.TIMM): [1.0, 1.0, 1.0], exported.openvino_row(exported.ANY_SIZE): any_size}
    if int8 is not None:
        times[exported.openvino_row(exported.INT8, "int8")] = int8
    report = {
        "processor": "one",
        "vnni": True,
        "threads": 2,
        "versions": {"torch": "2"},
        "rounds": 3,
        "batches": [
            {
                "batch_size": 1,
                "measured_at": "now",
                "load_before": 0.0,
                "left_out": [] if int8 else ["OpenVINO, 8 bits, int8"],
                "rows": [{**dataclasses.asdict(row), "times": seconds} for row, seconds in times.items()],
            }
        ],
    }
    text = exported.markdown(report)
    assert first in text and second in text
    assert ("Left out, as no file was given: OpenVINO, 8 bits, int8" in text) == (int8 is None)
    assert len([line for line in text.splitlines() if line.startswith("| OpenVINO |")]) == len(times)
