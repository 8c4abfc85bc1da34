"""`swin benchmark`: its options reach the measurement, whose figures reach the file."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.benchmark.setting import DTYPES
from swin_transformer_pytorch.commands import benchmark as command


class _Report:
    def table(self) -> Table:
        table = Table("library", "ms")
        table.add_row("ours", "1.0")
        return table

    def save_picture(self, path: str) -> None:
        Path(path).write_text("a picture")

    def to_dict(self) -> dict[str, float]:
        return {"milliseconds": 1.0}


def test_options_reach_the_measurement(swin, monkeypatch, tmp_path) -> None:
    asked = {}
    monkeypatch.setattr(benchmark, "run", lambda **options: asked.update(options) or _Report())
    target = tmp_path / "new" / "figures.json"
    words = "--models swin_tiny_patch4_window7_224 --batch-sizes 1 4 --dtypes bfloat16 --image-size 64 --training"
    outcome = swin("benchmark", *words.split(), "--rounds", 3, "--peers", "timm", "--output", target)
    assert outcome.code == 0
    assert asked == {
        "models": ["swin_tiny_patch4_window7_224"],
        "batch_sizes": [1, 4],
        "dtypes": ["bfloat16"],
        "image_sizes": [64],
        "training": True,
        "rounds": 3,
        "peers": ["timm"],
        "optimize": False,
        "floor": False,
        "memory": False,
    }
    assert "ours" in outcome.out
    assert json.loads(target.read_text()) == {"milliseconds": 1.0}


def test_the_floor_our_optimised_form_and_sizes(swin, monkeypatch, tmp_path) -> None:
    asked = {}
    monkeypatch.setattr(benchmark, "run", lambda **options: asked.update(options) or _Report())
    picture = tmp_path / "sizes.png"
    words = "--image-sizes 224 448 --optimize --floor --memory --peers openvino"
    assert swin("benchmark", *words.split(), "--picture", picture).code == 0
    assert asked["image_sizes"] == [224, 448]
    assert asked["optimize"] and asked["floor"] and asked["memory"]
    assert asked["peers"] == ["openvino"]
    assert picture.read_text() == "a picture"


def test_the_choices_are_those_that_are_measured() -> None:
    assert command.PEERS == benchmark.PEERS
    assert command.DTYPES == DTYPES


def test_peers_may_be_none(swin, monkeypatch) -> None:
    asked = {}
    monkeypatch.setattr(benchmark, "run", lambda **options: asked.update(options) or _Report())
    assert swin("benchmark", "--peers").code == 0
    assert asked["peers"] == []


def test_an_unknown_model_is_the_users_mistake(swin) -> None:
    outcome = swin("benchmark", "--models", "swin_tinny", "--peers", "--rounds", 1)
    assert outcome.code == 2
    assert "swin_tiny" in outcome.err
