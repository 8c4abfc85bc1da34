"""What a person sees of a run: the table before it, and the lines of a log."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tests.training.conftest import TINY

from swin_transformer_pytorch.extras import MissingExtraError
from swin_transformer_pytorch.training import load_recipe, train
from swin_transformer_pytorch.training.engine import loggers, progress
from swin_transformer_pytorch.training.engine.callbacks import telling
from swin_transformer_pytorch.training.engine.overview import describe_classes
from swin_transformer_pytorch.training.engine.progress import describe_seconds

DECAYED = {**TINY, "schedule.epochs": 1, "schedule.warmup_epochs": 0.5, "optimizer.layer_decay": 0.5}


def run(tmp_path: Path, **values: object) -> Path:
    train(load_recipe("demo_classification", {**DECAYED, "output": str(tmp_path / "run"), **values}))
    return tmp_path / "run"


def test_a_run_says_first_what_it_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    said = {line[1:].partition("  ")[0]: line for line in capsys.readouterr().err.splitlines() if line.startswith(" ")}
    for name, text in {
        "images": "2,000 to learn from, 1,000 to validate on",
        "classes": "10: T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, ...; 200 images each",
        "image size": "28 x 28 pixels, grey",
        "model": "parameters, from random weights",
        "device": "cpu x 1, precision 32-true",
        "batch": "320 images",
        "length": "6 steps, 1 epoch of 6",
        "peak learning rate": "0.003",
        "output": str(tmp_path / "run"),
    }.items():
        assert text in said[name], name


@pytest.mark.parametrize(("classes", "told"), [(2, False), (5, False), (6, True), (None, True)])
def test_a_top5_that_is_always_1_is_not_told(classes: int | None, told: bool) -> None:
    line = {"epoch": 1, "val_top1": 0.5, "val_top5": 1.0, "test_top5": 1.0}
    line |= {} if classes is None else {"val_num_classes": classes}
    assert [name for name in line if name not in telling(line)] == ([] if told else ["val_top5", "test_top5"])


def test_a_log_has_lines_within_an_epoch_with_the_highest_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 0.0)
    folder = run(tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "step" in line and line.startswith("epoch 1/1")]
    steps = [re.fullmatch(r"epoch 1/1  step (\d)/6  loss (\d\.\d+)  lr (\S+)  about .* to go", line) for line in lines]
    assert [match and match[1] for match in steps] == ["1", "2", "3", "4", "5", "6"]
    # The rise is over after 3 of the 6 steps: what the head learns with then, not the first layers.
    assert max(float(match[3]) for match in steps if match) == pytest.approx(0.003)
    assert json.loads((folder / "history.jsonl").read_text())["lr"] < 0.003


def test_a_log_has_lines_within_a_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 0.0)
    run(tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "validation" in line and line.startswith("epoch")]
    assert lines[-1].startswith("epoch 1/1  validation ") and len(lines) > 1
    assert lines[-1].rpartition(" ")[2].split("/")[0] == lines[-1].rpartition("/")[2], "the last of as many"


def test_the_length_is_told_after_a_few_steps_and_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_TIMED_SECONDS", 0.0)
    folder = run(tmp_path)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("about ")]
    assert [
        re.fullmatch(r"about \d+ s and the validations, by its first 4 steps", line) is not None for line in told
    ] == [True]
    held = load_recipe(folder, {"resume": True, "schedule.epochs": 1})
    train(held)
    assert "about " not in capsys.readouterr().err


def test_the_same_figures_are_in_both_histories_and_the_curves_can_be_looked_at(tmp_path: Path) -> None:
    folder = run(tmp_path, **{"schedule.epochs": 2})
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == lines
    for name in ("curves.png", "validation.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 200


def test_the_recipe_that_a_run_leaves_gives_the_run_again(tmp_path: Path) -> None:
    folder = run(tmp_path, **{"schedule.warmup_epochs": None})
    held = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert held["schedule"]["warmup_epochs"] == 0.1, "what was left open is what was chosen"
    again = train(load_recipe(folder, {"output": str(tmp_path / "again")}), progress=False)
    first = json.loads((folder / "history.jsonl").read_text())
    assert {**again.history[0], "seconds": 0} == {**first, "seconds": 0}


def test_figures_go_to_lightnings_loggers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "_EVERY_STEPS", 2)
    folder = run(tmp_path, **{"trainer.loggers": ["csv"]})
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses, scores = ({int(row["step"]): row[name] for row in rows if row[name]} for name in ("train_loss", "val_top1"))
    line = json.loads((folder / "history.jsonl").read_text())
    assert list(losses) == [2, 4, 6]
    assert float(losses[6]) == pytest.approx(line["train_loss"])
    assert {step: float(score) for step, score in scores.items()} == {6: line["val_top1"]}


def test_tensorboard_reads_what_its_logger_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs [tensorboard]")
    monkeypatch.setattr(loggers, "_EVERY_STEPS", 2)
    folder = run(tmp_path, **{"trainer.loggers": ["tensorboard"]})
    events = reader.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    line = json.loads((folder / "history.jsonl").read_text())
    losses, (score,) = events.Scalars("train_loss"), events.Scalars("val_top1")
    assert [point.step for point in losses] == [2, 4, 6]
    assert losses[-1].value == pytest.approx(line["train_loss"])
    assert (score.step, score.value) == (6, pytest.approx(line["val_top1"]))


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_logger_that_is_not_installed_is_one_error(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"swin-transformer-pytorch\[{name}\]"):
        run(tmp_path, **{"trainer.loggers": [name]})


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (None, "3: ant, bee, cow"),
        ({"ant": 1, "bee": 1, "cow": 1}, "3: ant, bee, cow; 1 object each"),
        ({"ant": 4000, "bee": 1, "cow": 7}, "3: ant, bee, cow; from 1 object (bee) to 4,000 (ant)"),
        ({"ant": 4, "bee": 4, "cow": 4}, "3: ant, bee, cow; 4 objects each"),
        ({"ant": 4000, "bee": 0, "cow": 7}, "3: ant, bee, cow; from 0 objects (bee) to 4,000 (ant)"),
    ],
)
def test_the_rarest_class_is_named(counts: dict[str, int] | None, text: str) -> None:
    assert describe_classes(("ant", "bee", "cow"), counts, "object") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "1.5 min"), (1200, "20 min"), (5399, "90 min"), (5400, "1.5 h"), (90000, "25 h")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text
