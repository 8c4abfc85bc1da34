"""`swin benchmark`: its options reach the measurement, whose figures reach the file."""

from __future__ import annotations

import json

from rich.table import Table

from swin_transformer_pytorch import benchmark


class _Report:
    def table(self) -> Table:
        table = Table("library", "ms")
        table.add_row("ours", "1.0")
        return table

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
        "image_size": 64,
        "training": True,
        "rounds": 3,
        "peers": ["timm"],
    }
    assert "ours" in outcome.out
    assert json.loads(target.read_text()) == {"milliseconds": 1.0}


def test_peers_may_be_none(swin, monkeypatch) -> None:
    asked = {}
    monkeypatch.setattr(benchmark, "run", lambda **options: asked.update(options) or _Report())
    assert swin("benchmark", "--peers").code == 0
    assert asked["peers"] == []


def test_an_unknown_model_is_the_users_mistake(swin) -> None:
    outcome = swin("benchmark", "--models", "swin_tinny", "--peers", "--rounds", 1)
    assert outcome.code == 2
    assert "swin_tiny" in outcome.err
