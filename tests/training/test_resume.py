"""A run that is stopped anywhere and resumed ends with the weights of the uninterrupted one, to the bit."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.training.conftest import TINY

from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.training import RecipeError, TrainResult, load_recipe, train
from swin_transformer_pytorch.training.engine.checkpoint_files import CheckpointFiles
from swin_transformer_pytorch.training.recipes.classification import Recipe
from swin_transformer_pytorch.training.tasks.classification.module import ClassificationTraining
from swin_transformer_pytorch.weights.files import CheckpointError

Make = Callable[..., Recipe]

# A real SIGKILL, in the middle of an epoch: the process has no say in what is on disk then.
KILLED_PROGRAM = """
import os, signal, sys
from swin_transformer_pytorch.training.tasks.classification.module import ClassificationTraining
from swin_transformer_pytorch.training import load_recipe, train

steps, step = 0, ClassificationTraining.training_step

def dying(self, batch, batch_idx):
    global steps
    steps += 1
    if steps > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

ClassificationTraining.training_step = dying
train(load_recipe(sys.argv[1]))
"""


class Stopped(Exception):
    """Stands for whatever ends a run."""


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, *, in_validation: bool = False) -> None:
    """Makes the next run stop before its step `steps` + 1, or in the first validation after step `steps`."""
    done = 0
    step, validate = ClassificationTraining.training_step, ClassificationTraining.validation_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        nonlocal done
        if done == steps:
            raise Stopped
        done += 1
        return step(self, batch, batch_idx)

    def validation_step(self: Any, batch: Any, batch_idx: int) -> None:
        if in_validation and done == steps:
            raise Stopped
        validate(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTraining, "training_step", training_step)
    monkeypatch.setattr(ClassificationTraining, "validation_step", validation_step)


def assert_same_end(first: TrainResult, second: TrainResult) -> None:
    one, other = (torch.load(result.last, weights_only=True) for result in (first, second))
    for part in ("state_dict", "ema_state_dict", "optimizer_states", "ema_steps", "swin"):
        assert_equal(one[part], other[part], part)
    for line, again in zip(first.history, second.history, strict=True):
        assert {**line, "seconds": 0} == {**again, "seconds": 0}


def assert_equal(one: Any, other: Any, where: str) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (item, again) in enumerate(zip(one, other, strict=True)):
            assert_equal(item, again, f"{where}[{index}]")
    else:
        assert one == other, where


@pytest.fixture(scope="module")
def whole_runs() -> dict[str, TrainResult]:
    """The uninterrupted runs, each made once."""
    return {}


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulating": {"trainer.accumulate": 2, "trainer.checkpoint_every_steps": 2},
    "workers and bf16": {"data.num_workers": 1, "trainer.precision": "bf16-mixed"},
}


@pytest.mark.parametrize(
    ("setting", "steps", "in_validation"),
    [
        ("plain", 2, False),
        ("plain", 6, False),
        ("plain", 6, True),
        ("plain", 9, False),
        ("accumulating", 3, False),
        ("accumulating", 11, False),
        ("workers and bf16", 8, False),
    ],
)
def test_a_stopped_run_ends_as_the_whole_one(
    setting: str,
    steps: int,
    in_validation: bool,
    tiny: Make,
    whole_runs: dict[str, TrainResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if setting not in whole_runs:
        whole_runs[setting] = train(tiny("whole", SETTINGS[setting]), progress=False)
    with monkeypatch.context() as patch:
        stop_after(patch, steps, in_validation=in_validation)
        with pytest.raises(Stopped):
            train(tiny("stopped", SETTINGS[setting]), progress=False)
    resumed = train(tiny("stopped", {**SETTINGS[setting], "resume": True}), progress=False)
    assert_same_end(whole_runs[setting], resumed)


def test_a_run_killed_by_the_system_ends_as_the_whole_one(
    tiny: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    killed = tiny("killed")
    (tmp_path / "killed.yaml").write_text(yaml.safe_dump(killed.to_dict()))
    (tmp_path / "program.py").write_text(KILLED_PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "killed.yaml"), "8"]
    # Sums depend on how many threads share them: the run that dies must have as many as the one that goes on.
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert "epoch 1/2" in process.stderr
    resumed = train(tiny("killed", {"resume": True}), progress=False)
    assert [line["epoch"] for line in resumed.history] == [1, 2]
    assert_same_end(train(tiny("whole"), progress=False), resumed)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-1] + b"x"]
)
def test_a_damaged_last_checkpoint_costs_the_steps_since_the_one_before(
    damage: Callable[[bytes], bytes],
    tiny: Make,
    whole_runs: dict[str, TrainResult],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "plain" not in whole_runs:
        whole_runs["plain"] = train(tiny("whole"), progress=False)
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(Stopped):
            train(tiny("stopped"), progress=False)
    last = Path(tiny("stopped").output) / "last.ckpt"
    last.write_bytes(damage(last.read_bytes()))
    last.with_name("history.jsonl").write_bytes(b"\xff\x00{" + last.with_name("history.jsonl").read_bytes())
    caplog.clear()
    resumed = train(tiny("stopped", {"resume": True}))
    assert "up to 1 steps are done again" in caplog.text
    assert "1 lines cannot be read and are left out" in caplog.text
    assert capsys.readouterr().err.splitlines()[0] == "resuming at epoch 2 of 2"
    one, other = (torch.load(result.last, weights_only=True) for result in (whole_runs["plain"], resumed))
    assert_equal(one["state_dict"], other["state_dict"], "state_dict")
    assert resumed.metrics == whole_runs["plain"].metrics
    assert not last.with_name("previous.ckpt").exists()


def test_a_finished_run_without_its_history_keeps_its_scores(tiny: Make) -> None:
    first = train(tiny(), progress=False)
    (first.output / "history.jsonl").write_bytes(b"\x00" * 100)
    again = train(tiny(overrides={"resume": True}), progress=False)
    assert (again.metrics, again.best_score, again.history) == (first.metrics, first.best_score, ())


def test_a_full_disk_is_one_error_and_the_run_goes_on_when_there_is_room(
    tiny: Make, whole_runs: dict[str, TrainResult], environment: dict[str, str], tmp_path: Path
) -> None:
    """`swin train` with a limit on the size of files, which the system answers as it does a full disk."""
    (tmp_path / "full.yaml").write_text(yaml.safe_dump(tiny("full").to_dict()))
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (%d, resource.RLIM_INFINITY)); "
    limited += "from swin_transformer_pytorch.cli import main; sys.exit(main(sys.argv[1:]))"
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    words = ["train", str(tmp_path / "full.yaml")]
    command = [sys.executable, "-c", limited % 10_000, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2, done.stderr
    assert "last.ckpt cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    left = sorted(path.name for path in (tmp_path / "full").iterdir())
    assert left == ["history.csv", "history.jsonl", "recipe.yaml", "run.lock"]
    if "plain" not in whole_runs:
        whole_runs["plain"] = train(tiny("whole"), progress=False)
    assert_same_end(whole_runs["plain"], train(tiny("full", {"resume": True}), progress=False))


def test_a_finished_run_is_left_as_it_is(tiny: Make) -> None:
    first = train(tiny(), progress=False)
    before = first.last.read_bytes()
    again = train(tiny(overrides={"resume": True}), progress=False)
    assert again == first
    assert again.last.read_bytes() == before


def test_a_finished_run_that_is_resumed_measures_the_mean_on_the_test_images(tmp_path: Path) -> None:
    for part, images in (("train", 30), ("val", 8), ("test", 40)):
        sample = FashionSample("train" if part == "train" else "test")
        for index in range(images):
            picture, label = sample[index]
            (folder := tmp_path / "clothes" / part / f"{int(label % 2)}").mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{index}.png")
    values = {**TINY, "data.kind": "folder", "data.root": str(tmp_path / "clothes"), "data.batch_size": 10}
    # A mean that stays far behind the weights.
    values |= {"optimizer.lr": 1e-2, "trainer.ema_decay": 0.9999, "output": str(tmp_path / "run")}
    first = train(load_recipe("demo_classification", values), progress=False)
    again = train(load_recipe("demo_classification", {**values, "resume": True}), progress=False)
    assert "test_loss" in first.metrics
    assert again.metrics == first.metrics


def test_batches_of_two_devices_are_taken_up_by_one_in_the_middle_of_an_epoch(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of one device is made that of two, whose steps had half as many batches on each: what it becomes on
    one is what it was.
    """
    two_batches = {"data.batch_size": 160, "trainer.accumulate": 2}
    whole = train(tiny("whole", two_batches), progress=False)
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(Stopped):
            train(tiny("moved", two_batches), progress=False)
    path = whole.output.with_name("moved") / "last.ckpt"
    held = torch.load(path, weights_only=True)
    held["recipe"]["trainer"] |= {"devices": 2, "accumulate": 1}
    place = held["ClassificationData"]
    place |= {"parts": place["parts"] * 2}
    place |= {name: place[name] // 2 for name in ("step", "steps", "steps_per_pass")}
    counts = held["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert (counts["ready"], counts["completed"]) == (6, 5), "it is written at the end of a batch"
    counts |= {name: count - 3 for name, count in counts.items()}
    CheckpointFiles().save_checkpoint(held, path)
    resumed = train(tiny("moved", {**two_batches, "resume": True}), progress=False)
    assert_same_end(whole, resumed)


def test_a_run_is_not_overwritten_by_accident(tiny: Make) -> None:
    train(tiny(), progress=False)
    with pytest.raises(RecipeError, match=r"already holds a run .*--resume"):
        train(tiny(), progress=False)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer.lr": 0.5}, r"optimizer\.lr was 0\.003 .* is 0\.5 now"),
        ({"data.batch_size": 100}, r"data\.batch_size was 320"),
        ({"trainer.seed": 3}, r"trainer\.seed was 0"),
        ({"model.config": {"embed_dim": 16, "depths": [1], "num_heads": [1]}}, r"model\.config\.depths was \[1, 2\]"),
    ],
)
def test_another_recipe_does_not_resume_the_run(overrides: dict[str, Any], message: str, tiny: Make) -> None:
    train(tiny(overrides={"schedule.epochs": 1}), progress=False)
    with pytest.raises(RecipeError, match=message):
        train(tiny(overrides={"schedule.epochs": 1, "resume": True, **overrides}), progress=False)


def test_a_damaged_checkpoint_is_named(tiny: Make) -> None:
    result = train(tiny(overrides={"schedule.epochs": 1}), progress=False)
    result.last.write_bytes(result.last.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"last\.ckpt cannot be resumed from"):
        train(tiny(overrides={"schedule.epochs": 1, "resume": True}), progress=False)
    torch.save({"model": {}}, result.last)
    with pytest.raises(CheckpointError, match=r"no last\.ckpt"):
        train(tiny(overrides={"schedule.epochs": 1, "resume": True}), progress=False)
