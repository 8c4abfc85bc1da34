"""benchmarks/classification.py: aims and what is made of a run's figures. It measures nothing here."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swin_transformer_pytorch.benchmark import FLOOR, OPTIMIZED, OURS, BenchmarkError, Measurement

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
SECONDS = {OURS: 0.8, OPTIMIZED: 0.6, FLOOR: 0.5, "timm": 1.1, "torchvision": 1.0, "transformers": 2.0, "openvino": 0.7}


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("aims"), importlib.import_module("classification")
    for name in ("aims", "classification"):
        sys.modules.pop(name)


def _measurements(mode: str = "inference", *, dtype: str = "float32", batch_size: int = 8) -> list[Measurement]:
    return [
        Measurement(
            model="swin_tiny_patch4_window7_224",
            library=library,
            mode=mode,
            batch_size=batch_size,
            dtype=dtype,
            image_size=(224, 224),
            seconds=seconds,
            ratio=1.0,
            optimized_ratio=None,
            floor_ratio=None,
            times=(seconds, 1.1 * seconds, 2 * seconds),
            peak_bytes=round(1e9 * seconds),
        )
        for library, seconds in SECONDS.items()
    ]


def test_every_aim_is_in_a_part_that_is_measured(scripts) -> None:
    aims, classification = scripts
    assert {aim.part for aim in aims.AIMS} <= set(classification.PARTS)
    assert len(aims.AIMS) == 26


def test_ours_is_divided_by_the_fastest_of_those_named(scripts) -> None:
    aims, _ = scripts
    found = [one for one in aims.outcomes({"inference": _measurements()}) if one.value is not None]
    assert [(one.aim.ours, one.below, round(one.value, 3), one.met) for one in found] == [
        (OPTIMIZED, FLOOR, 1.2, False),
        (OPTIMIZED, "torchvision", 0.6, True),
        (OPTIMIZED, "openvino", 0.857, False),
        (OURS, "torchvision", 0.8, True),
    ]


def test_memory_is_divided_by_the_least(scripts) -> None:
    aims, _ = scripts
    outcomes = aims.outcomes({"training": _measurements("training", dtype="bfloat16")})
    (memory,) = (one for one in outcomes if one.value is not None and one.aim.quantity == "peak memory")
    assert (memory.below, memory.met) == ("torchvision", False)
    assert memory.value == pytest.approx(0.8)


def test_the_same_pixels_are_divided_by_many_small_images(scripts) -> None:
    aims, _ = scripts
    many = _measurements(batch_size=64)
    big = [dataclasses.replace(m, batch_size=1, image_size=(1792, 1792)) for m in many]
    found = [one for one in aims.outcomes({"size": [*big, *many]}) if one.value is not None]
    assert [(one.aim.ours, one.aim.quantity, one.below, one.value) for one in found] == [
        (OPTIMIZED, "time", "64x224x224", 1.0),
        (OURS, "time", "64x224x224", 1.0),
        (OURS, "peak memory", "64x224x224", 1.0),
        (OPTIMIZED, "peak memory", "torchvision", pytest.approx(0.6)),
    ]


def test_the_table_says_what_is_missed_and_by_how_much(scripts) -> None:
    aims, _ = scripts
    lines = aims.aims_table(aims.outcomes({"inference": _measurements()})).splitlines()
    assert lines[2].endswith("| optimized | floor | 1.200 | 1.20-1.20 | <= 0.85 | **missed** by 41% |")
    assert lines[3].endswith("| optimized | torchvision | 0.600 | 0.60-0.60 | <= 0.65 | met |")
    assert lines[5].endswith("|  |  | <= 0.85 | not measured |")


def test_parts_are_kept_and_replaced(scripts, tmp_path, monkeypatch) -> None:
    _, classification = scripts
    pytest.importorskip("matplotlib")
    profile = {
        "library": OURS,
        **dataclasses.asdict(classification._setting(classification.SMOKE, 1)),
        "seconds": 0.5,
        "shares": {"products": 0.75, "other": 0.25},
        "operators": {},
    }
    monkeypatch.setitem(classification.MEASURED, "inference", lambda scale: iter(_measurements()))
    monkeypatch.setitem(classification.MEASURED, "training", lambda scale: iter(_measurements("training")))
    monkeypatch.setattr(classification, "profile", lambda scale: [profile])
    stem = tmp_path / "new" / "result"
    for part in ("training", "inference", "profile", "inference"):
        monkeypatch.setattr(sys, "argv", ["classification.py", part, "--output", str(stem)])
        classification.main()

    report = json.loads(stem.with_suffix(".json").read_text())
    assert list(report["parts"]) == ["inference", "training", "profile"]
    assert len(report["parts"]["inference"]["measurements"]) == len(SECONDS)
    text = stem.with_suffix(".md").read_text()
    assert "](result.png)" in text and "| 500.0 | 75% | 25% |" in text and "## training" in text
    assert 0 < stem.with_suffix(".png").stat().st_size < 150_000

    report["threads"] += 1
    stem.with_suffix(".json").write_text(json.dumps(report))
    with pytest.raises(BenchmarkError, match="figures of threads"):
        classification.main()


def test_an_unknown_part_is_named(scripts, monkeypatch, capsys) -> None:
    _, classification = scripts
    monkeypatch.setattr(sys, "argv", ["classification.py", "sleep"])
    with pytest.raises(SystemExit):
        classification.main()
    assert "no part 'sleep'; there are: inference, training" in capsys.readouterr().err
