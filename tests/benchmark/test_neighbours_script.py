"""benchmarks/neighbours.py: what it sets beside one another, with small models in place of Swin-T."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def neighbours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    script = importlib.import_module("neighbours")
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    monkeypatch.setattr(script, "WAITS", {"passive": {"OMP_WAIT_POLICY": "PASSIVE"}})
    monkeypatch.setattr(script, "START", {"ours": "import torch; model = list", "timm": "import torch; model = set"})
    cores = os.sched_getaffinity(0)
    yield script
    os.sched_setaffinity(0, cores)
    sys.modules.pop("neighbours")


def test_every_way_to_wait_and_the_start(
    neighbours: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["neighbours.py", "--rounds", "1", "--start-rounds", "1"])
    neighbours.main()
    (table,) = tmp_path.glob("*.md")
    text = table.read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    for model in ("ours", "ours, optimised", "timm"):
        assert f"| passive | {model} | " in text
    (figures,) = tmp_path.glob("*.json")
    found = json.loads(figures.read_text())
    assert all(len(times["neighbour"]) == 1 for times in found["passive"].values())
    assert len(found["start"]["ours"]) == 1
