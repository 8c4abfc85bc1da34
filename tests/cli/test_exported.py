"""Exported files on the command line: `swin predict` and `swin evaluate` take them, others say what to give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.commands import result_rows
from swin_transformer_pytorch.models.registry import load_model


@pytest.fixture
def files(
    checkpoint: Path, dense_checkpoints: dict[str, Path], small_file: Callable[..., Path], tmp_path: Path
) -> dict[str, Path]:
    """A file for each task that says it is the model of that checkpoint."""
    grey: dict[str, Any] = {"channels": 1, "classes": 10}
    sources = {"classification": (checkpoint, grey), "detection": (dense_checkpoints["detection"], {"batch": 1})}
    sources["segmentation"] = (dense_checkpoints["segmentation"], {"classes": 11})
    return {
        task: small_file(tmp_path / f"{task}.onnx", load_model(source).metadata(), task=task, **form)
        for task, (source, form) in sources.items()
    }


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("form", ["onnx", "xml"])
def test_predict_takes_a_file_of_every_task(
    form: str, swin, files: dict[str, Path], as_openvino, pictures: Path, dense_data: Path, tmp_path: Path
) -> None:
    if form == "xml":
        files = {task: as_openvino(path, path.with_suffix(".xml")) for task, path in files.items()}
    folders = {task: pictures if task == "classification" else dense_data / "val" for task in files}
    found = {}
    for task, path in files.items():
        target = tmp_path / f"{task}.jsonl"
        outcome = swin("predict", folders[task], "--weights", path, "--output", target, "--pictures", tmp_path / task)
        assert outcome.code == 0, outcome.err
        found[task] = rows(target)
        assert all(Path(row["picture"]).is_file() for row in found[task])
    weight = np.sin(np.arange(10))
    for row in found["classification"]:
        with Image.open(row["path"]) as image:
            mean = (np.asarray(image.convert("L")).mean() / 255 - 0.286) / 0.353
        scores = np.exp(mean * weight) / np.exp(mean * weight).sum()
        assert row["labels"] == np.argsort(-scores)[:5].tolist()
        assert row["scores"] == pytest.approx(np.sort(scores)[:-6:-1], abs=1e-3)
    assert all(box == pytest.approx([0, 0, 80, 64]) for row in found["detection"] for box in row["boxes"])
    assert any(row["boxes"] for row in found["detection"])
    assert all(sum(row["shares"]) == pytest.approx(1) for row in found["segmentation"])


def test_evaluate_measures_a_file_of_every_task(swin, files: dict[str, Path], tmp_path: Path) -> None:
    data = {"classification": "fashion_sample", "detection": "scenes_sample", "segmentation": "scenes_sample"}
    said = {"classification": "1,000 images: top-1", "detection": "AP of boxes", "segmentation": "mIoU"}
    for task, path in files.items():
        words = ("--data", data[task], "--output", tmp_path / task, "--data.num_scenes", 2)
        outcome = swin("evaluate", "--weights", path, *words)
        assert outcome.code == 0, outcome.err
        assert said[task] in outcome.out


def test_a_prediction_goes_on_with_the_same_file_alone(
    swin, files, small_file, checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, path = tmp_path / "r.jsonl", files["classification"]
    words = ("predict", pictures, "--weights", path, "--output", target)
    assert swin(*words).code == 0
    whole = target.read_bytes()
    target.unlink()
    write, left = result_rows.ResultRows.write, iter((True, True))

    def interrupted(self, record) -> None:
        if not next(left, False):
            raise KeyboardInterrupt
        write(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(result_rows.ResultRows, "write", interrupted)
        assert swin(*words).code == 130
    before = path.read_bytes()
    grey = {**load_model(checkpoint).metadata(), "classes": [str(index) for index in range(10)]}
    small_file(path, grey, channels=1, classes=10)
    outcome = swin(*words, "--resume")
    assert outcome.code == 2 and "begun with other settings (model" in outcome.err
    path.write_bytes(before)
    moved = path.rename(tmp_path / "moved.onnx")
    assert swin("predict", pictures, "--weights", moved, "--output", target, "--resume").code == 0
    assert target.read_bytes() == whole


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("convert", "FILE", "out.pth", "--to", "timm"), "give the checkpoint that it was exported from"),
    (("export", "FILE", "out.pt2"), "ExportedModel cannot be exported: give a"),
    (
        ("train", "demo_classification", "--model.init", "official", "--model.weights", "FILE"),
        "give the checkpoint that it was exported",
    ),
    (("predict", ".", "--weights", "FILE", "--model", "swin_tiny_patch4_window7_224"), "--weights without --model"),
    (("predict", ".", "--weights", "FILE", "--score-threshold", "0.5"), "cannot be used with this model"),
    (("predict", ".", "--weights", "missing.onnx"), "missing.onnx does not exist"),
    (("predict", ".", "--weights", "swin_tiny_patch4_window7_224.xml"), "7_224.xml does not exist"),
    (("benchmark", "--models", "FILE"), "no model named"),
    (("evaluate", "--weights", "FILE", "--data", "scenes_sample"), "is not for classification"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_is_one_line(swin, files, words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = swin(*(files["classification"] if word == "FILE" else word for word in words))
    assert outcome.code == 2 and message in outcome.err and outcome.err.count("\n") == 1, outcome.err
