"""Signals to a run: it saves, says how to go on, and tells by its exit code; its rest is that of the whole run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from swin_transformer_pytorch.training import RecipeError, train
from swin_transformer_pytorch.training.engine.run_lock import locked
from swin_transformer_pytorch.training.recipes.classification import Recipe

Make = Callable[..., Recipe]

# `swin train`, which signals its whole process group (as a terminal or a cluster does), or itself alone, in the middle
# of a step, or in a validation.
PROGRAM = """
import os, signal, subprocess, sys
from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.training.tasks.classification.module import ClassificationTraining as Training

number, hook, at, times = int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
group = sys.argv[6] == "group"
count, original = 0, getattr(Training, hook)

def signalling(self, *arguments):
    global count
    count += 1
    if count == at and os.environ.get("LOCAL_RANK", "0") == "0":
        for _ in range(times):
            # Not from this process itself, as a worker would take it for its own end.
            subprocess.run(["kill", f"-{number}", "--", f"-{os.getpgrp()}" if group else str(os.getpid())])
    return original(self, *arguments)

setattr(Training, hook, signalling)
if __name__ == "__main__":
    sys.exit(main(["train", sys.argv[1]]))
"""


def run(
    recipe: Recipe, folder: Path, environment: dict[str, str], *arguments: object
) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    words = [str(int(value) if isinstance(value, int) else value) for value in arguments]
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    return subprocess.run(
        [sys.executable, str(folder / "program.py"), str(folder / "recipe.yaml"), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """The weights of the uninterrupted run, made once."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "hook", "at", "saved", "overrides"),
    [
        (signal.SIGTERM, "training_step", 3, 3, {}),
        (signal.SIGINT, "training_step", 8, 8, {}),
        (signal.SIGTERM, "training_step", 6, 6, {}),  # an epoch's last
        (signal.SIGINT, "validation_step", 1, 6, {}),
        (signal.SIGTERM, "training_step", 12, 12, {}),  # the run's last
        (signal.SIGINT, "training_step", 2, 2, {"data.num_workers": 1}),
        (signal.SIGTERM, "training_step", 9, 9, {"data.num_workers": 1}),
        (signal.SIGTERM, "training_step", 3, 2, {"trainer.accumulate": 2}),  # between two steps: the next one is done
    ],
)
def test_a_signal_saves_the_step_and_the_rest_is_as_in_the_whole_run(
    number: signal.Signals,
    hook: str,
    at: int,
    saved: int,
    overrides: dict[str, Any],
    tiny: Make,
    environment: dict[str, str],
    tmp_path: Path,
    whole: dict[str, Any],
) -> None:
    overrides = {"trainer.checkpoint_every_steps": 1000, **overrides}
    done = run(tiny("stopped", overrides), tmp_path, environment, number, hook, at, 1, "group")
    assert done.returncode == 128 + number, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{number.name}: finishing the step" in done.stderr
    assert f"swin train --resume {tmp_path / 'stopped'} continues from last.ckpt" in done.stderr
    assert torch.load(tmp_path / "stopped" / "last.ckpt", weights_only=True)["global_step"] == saved
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    key = str(overrides.get("trainer.accumulate", 1))
    if key not in whole:
        result = train(tiny("whole", {**overrides, "data.num_workers": 0}), progress=False)
        whole[key] = torch.load(result.last, weights_only=True)["state_dict"]
    resumed = train(tiny("stopped", {**overrides, "resume": True}), progress=False)
    weights = torch.load(resumed.last, weights_only=True)["state_dict"]
    assert weights.keys() == whole[key].keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole[key].items())
    assert [line["epoch"] for line in resumed.history] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(
    number: signal.Signals, tiny: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(tiny("stopped"), tmp_path, environment, number, "training_step", 3, 2, "group")
    assert done.returncode == -number
    assert "Traceback" not in done.stderr
    assert torch.load(tmp_path / "stopped" / "last.ckpt", weights_only=True)["global_step"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "target"), [("ddp", "one"), ("fsdp", "group")])
def test_two_processes_stop_after_the_same_step(
    strategy: str, target: str, tiny: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    overrides = {"trainer.devices": 2, "trainer.strategy": strategy, "data.batch_size": 160}
    recipe = tiny("both", {**overrides, "trainer.checkpoint_every_steps": 1000})
    done = run(recipe, tmp_path, environment, signal.SIGTERM, "training_step", 4, 1, target)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "Traceback" not in done.stderr
    assert torch.load(tmp_path / "both" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_handlers_are_as_before_after_a_run(tiny: Make) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    train(tiny(overrides={"schedule.epochs": 1}), progress=False)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_minutes_are_enough_for_a_checkpoint(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps alone would not write one within the epoch."""
    from swin_transformer_pytorch.training.engine import callbacks

    written = []
    real = callbacks.Checkpoints._save
    monkeypatch.setattr(
        callbacks.Checkpoints,
        "_save",
        lambda self, trainer, name: (written.append((name, trainer.global_step)), real(self, trainer, name)),
    )
    overrides = {"schedule.epochs": 1, "trainer.checkpoint_every_steps": 1000, "trainer.accumulate": 2}
    train(tiny("seldom", overrides), progress=False)
    assert written == [("best.ckpt", 3), ("last.ckpt", 3)]
    written.clear()
    train(tiny("often", {**overrides, "trainer.checkpoint_every_minutes": 1e-9}), progress=False)
    assert written == [("last.ckpt", 1), ("last.ckpt", 2), ("best.ckpt", 3), ("last.ckpt", 3)]
    with pytest.raises(RecipeError, match=r"trainer\.checkpoint_every_minutes=0"):
        tiny("never", {"trainer.checkpoint_every_minutes": 0})


# The child stands for a process that loads images, which outlives a killed run for a while.
HOLDER = """
import os, sys, time
from pathlib import Path
from swin_transformer_pytorch.training.engine.run_lock import locked
with locked(Path(sys.argv[1])):
    if os.fork():
        print("held", flush=True)
    time.sleep(60)
"""


def test_two_trainings_do_not_share_a_folder(tiny: Make, environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            for overrides in ({}, {"resume": True}):
                with pytest.raises(RecipeError, match=rf"running in .*run \(process {holder.pid}\).* another --output"):
                    train(tiny("run", overrides), progress=False)
            holder.kill()
            holder.wait()
            with locked(folder):
                pass
            train(tiny("run", {"schedule.epochs": 1}), progress=False)
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("swin_transformer_pytorch.whole.fcntl.lockf", unsupported)
    with locked(tmp_path):
        assert (tmp_path / "run.lock").exists()
