"""Several devices, as processes on the CPU: they train as one device does, and resume as it does, on others too."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from tests.training.conftest import TINY

from swin_transformer_pytorch.training import train
from swin_transformer_pytorch.training.engine.callbacks import read_history
from swin_transformer_pytorch.training.recipes.classification import Recipe

# Arguments: the recipe, after how many batches a process is killed, and its rank.
PROGRAM = """
import os, signal, sys
from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.training.tasks.classification.module import ClassificationTraining

recipe, kill_after, kill_rank = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
steps, step = 0, ClassificationTraining.training_step

def dying(self, batch, batch_idx):
    global steps
    steps += 1
    if steps > kill_after and self.global_rank == kill_rank:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

if __name__ == "__main__":
    ClassificationTraining.training_step = dying
    sys.exit(main(["train", recipe]))
"""
# What is random in a step differs between the ranks, so it is left out where they are compared with one device.
SAME: dict[str, Any] = {
    "model.config": {**TINY["model.config"], "drop_path_rate": 0.0},
    "data.augmentation.mixup": 0,
    "data.augmentation.cutmix": 0,
    "trainer.checkpoint_every_steps": 4,
}


def start(
    recipe: Recipe,
    folder: Path,
    environment: dict[str, str],
    *,
    kill_after: int = 10_000,
    kill_rank: int = 0,
    launcher: tuple[str, ...] = (),
    **overrides: Any,
) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    recipe = recipe.replace({name.replace("__", "."): value for name, value in overrides.items()})
    (folder / "program.py").write_text(PROGRAM)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    words = [str(folder / "program.py"), str(folder / "recipe.yaml"), str(kill_after), str(kill_rank)]
    python = [sys.executable, "-W", "error"]
    # Its own warnings are torchrun's affair.
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, *words] if launcher else [*python, *words]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=folder, **output)  # type: ignore[call-overload]


def run(recipe: Recipe, folder: Path, environment: dict[str, str], **options: Any) -> tuple[int, str, str]:
    process = start(recipe, folder, environment, **options)
    output, errors = process.communicate(timeout=300)
    if process.returncode not in (0, 2, -signal.SIGKILL):
        pytest.fail(errors[-3000:])
    return process.returncode, output, errors


def assert_close(run: Path, single: Path) -> None:
    """Sums in another order differ by some 1e-5; a state that is not restored, by more than 1e-3."""
    actual = load_file(run / "model.safetensors")
    for name, tensor in load_file(single / "model.safetensors").items():
        if name.endswith(
            "qkv.bias"
        ):  # softmax does not see the keys': their gradient is rounding, which AdamW enlarges
            third = len(tensor) // 3
            actual[name][third : 2 * third] = tensor[third : 2 * third]
        torch.testing.assert_close(actual[name], tensor, atol=1e-4, rtol=0, msg=name)
    lines = [read_history(folder / "history.jsonl") for folder in (run, single)]
    for one, other in zip(*lines, strict=True):
        for name in ("train_loss", "val_loss", "val_top1"):
            assert one[name] == pytest.approx(other[name], abs=2e-5), name
    folder = torch.load(run / "last.ckpt", weights_only=True).get("folder")
    assert [path.name for path in run.glob("shards-*")] == ([folder] if folder else [])


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_one_takes_up_what_they_began(
    tiny: Callable[..., Recipe], environment: dict[str, str], tmp_path: Path
) -> None:
    single = train(tiny("single", SAME), progress=False)
    recipe = tiny("both", {**SAME, "trainer.devices": 2, "data.batch_size": 160})
    code, _, errors = run(recipe, tmp_path, environment, kill_after=9, kill_rank=1)
    # The first process notices, or is ended by what started it.
    assert code in (2, -signal.SIGKILL)
    assert "has ended" in errors or "terminated with code -9, and ends the run" in errors
    assert errors.count("swin: error") == 1 and "swin train --resume" in errors and "Traceback" not in errors
    # Other devices with other images a step would be another run.
    code, _, errors = run(recipe, tmp_path, environment, resume=True, trainer__devices=1)
    assert code == 2 and "or other trainer.devices with as many images a step" in errors
    one = {"trainer__devices": 1, "data__batch_size": 320}
    code, output, errors = run(recipe, tmp_path, environment, resume=True, **one)
    assert (code, output.count("top-1")) == (0, 1)
    assert "resumed on 1 device, 2 before: the same images a step" in errors
    assert_close(tmp_path / "both", single.output)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", ["whole", "sharded"])
def test_sharded_weights_do_as_whole_ones_with_uneven_shares_of_validation_images(
    checkpoints: str, tiny: Callable[..., Recipe], environment: dict[str, str], tmp_path: Path
) -> None:
    data = {"data.kind": "folder", "data.root": str(folder_of(tmp_path / "images", 64, 33)), "data.image_size": 28}
    same = {**SAME, **data, "model.in_channels": 1, "data.num_workers": 0}
    single = train(tiny("single", {**same, "data.batch_size": 16, "trainer.ema_decay": 0.9}), progress=False)
    # 17 and 16 images in batches of 8: three and two of them.
    both = {"trainer.devices": 2, "trainer.strategy": "fsdp", "data.batch_size": 8, "trainer.ema_decay": 0.9}
    both |= {"trainer.checkpoints": checkpoints, "trainer.checkpoint_every_steps": 1}
    recipe = tiny("both", {**same, **both})
    assert run(recipe, tmp_path, environment, kill_after=6)[0] == -signal.SIGKILL
    code, output, _ = run(recipe, tmp_path, environment, resume=True)
    assert (code, output.count("top-1")) == (0, 1)
    assert_close(tmp_path / "both", single.output)


def folder_of(root: Path, train_images: int, val_images: int) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("train", train_images), ("val", val_images)):
        for number in range(max(count, 2)):
            place = root / part / f"class{number % 2}"
            place.mkdir(parents=True, exist_ok=True)
            if number < count:
                pixels = random.integers(0, 256, (28, 28), dtype=np.uint8) // (1 + number % 2)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return root


@pytest.mark.slow
def test_two_nodes_without_a_shared_folder_train_as_one_machine(
    tiny: Callable[..., Recipe], environment: dict[str, str], tmp_path: Path
) -> None:
    data = {"data.kind": "folder", "data.root": str(folder_of(tmp_path / "images", 64, 5)), "data.image_size": 28}
    same = {**SAME, **data, "model.in_channels": 1, "data.num_workers": 0}
    single = train(tiny("single", {**same, "data.batch_size": 16}), progress=False)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    recipe, started = tiny("run", {**same, "data.batch_size": 8, "trainer.num_nodes": 2}), []
    for rank in range(2):
        words = ("--nnodes", "2", "--node-rank", str(rank), "--master-addr", "localhost", "--master-port", str(port))
        node = tmp_path / f"node{rank}"
        started.append(start(recipe, node, environment, launcher=words, output=str(node / "run")))
    ended = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended[0][1][-2000:]
    assert ["top-1" in output for output, _ in ended] == [True, False]
    assert_close(tmp_path / "node0" / "run", single.output)
    assert not list((tmp_path / "node1").glob("run/*.ckpt"))


@pytest.mark.parametrize(
    ("started", "message"),
    [
        (None, r"trainer\.num_nodes=2 needs torchrun on each node: torchrun --nnodes 2 .*--nproc-per-node 3"),
        ("srun", r"srun started 4 processes, which do not know each other: start one a node, with torchrun in it"),
        ("torchrun", r"torchrun started 4 processes, 2 on this node.*give --trainer\.devices 2 --trainer\.num_nodes 2"),
    ],
)
def test_devices_that_are_not_what_torchrun_started_are_refused(
    started: str | None, message: str, tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("TORCHELASTIC")]:
        monkeypatch.delenv(name)
    by_torchrun = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    by_srun = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}
    for name, value in {"torchrun": by_torchrun, "srun": by_srun}.get(started or "", {}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        train(tiny("run", {"trainer.num_nodes": 1 if started == "srun" else 2, "trainer.devices": 3}), progress=False)
