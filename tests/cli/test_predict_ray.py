"""`swin predict --engine ray`: what it refuses before anything starts, and what an actor is made with."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from swin_transformer_pytorch import cli
from swin_transformer_pytorch.optimize import is_optimized
from swin_transformer_pytorch.predict import ray as on_ray
from swin_transformer_pytorch.predict.ray import RayPrediction


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "ray"], "needs --output, a folder for its pieces"),
        (["--engine", "ray", "--output", "rows.csv"], "whose ending says their format: .jsonl or .parquet"),
        (["--engine", "ray", "--output", "s3://x/rows.jsonl"], "is no folder on this machine, which gathers the rows"),
        (
            ["--engine", "ray", "--output", "rows.jsonl", "--pictures", "p", "--yolo", "y"],
            "--pictures, --yolo: --engine",
        ),
        (["--engine", "ray", "--output", "rows.jsonl", "--device", "cuda:1"], "Ray gives each worker its GPU"),
        (["--workers", "2"], "--workers 2 is for --engine ray"),
    ],
)
def test_what_cannot_be(words: list[str], message: str, swin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = swin("predict", "photos", "--weights", "fashion", *words)
    assert outcome.code == cli.EXIT_USAGE and message in outcome.err
    assert not any(tmp_path.iterdir())


def test_without_ray_the_extra_is_named(swin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray.data", raising=False)
    outcome = swin("predict", ".", "--weights", "fashion", "--engine", "ray", "--output", "rows.jsonl")
    assert outcome.code == cli.EXIT_USAGE
    assert "pip install 'swin-transformer-pytorch[ray]'" in outcome.err


@pytest.mark.parametrize("bad", [0, 2])
def test_what_is_handed_on_and_said(
    bad: int, swin, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The actor's predictor travels whole, is in its fastest form and as the options say."""
    given = {}

    def predict_on_ray(make_predictor, patterns, output, *, told, **options) -> RayPrediction:
        given.update(options, patterns=patterns, predictor=pickle.loads(pickle.dumps(make_predictor))())  # noqa: S301
        told(1, 2, ["x.png is damaged"] * bad)
        return RayPrediction(output=Path(output), rows=10, bad=bad, kept=1, made=1)

    monkeypatch.setattr(on_ray, "predict_on_ray", predict_on_ray)
    monkeypatch.setattr(on_ray, "require_ray", lambda: None)
    words = ("--engine", "ray", "--workers", 3, "--output", "rows.jsonl", "--top-k", 2, "--resume", "--device", "cpu")
    outcome = swin("predict", tmp_path, "--weights", checkpoint, *words)
    assert outcome.code == (1 if bad else 0)
    assert is_optimized(given["predictor"].model) and given["predictor"].top_k == 2
    assert (given["workers"], given["use_gpus"], given["resume"]) == (3, False, True)
    assert given["patterns"] == [str(tmp_path)] and given["settings"]["top_k"] == 2
    assert not {"engine", "workers", "device", "output"} & given["settings"].keys(), "they change no row"
    assert "results: rows.jsonl, 10 rows in 2 pieces" in outcome.err
    assert "1 of 2 pieces were there before" in outcome.err
    assert outcome.err.count("skipped: x.png is damaged") == bad
