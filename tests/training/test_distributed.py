"""Several devices, as two processes on the CPU: they train as one device does, and resume as it does."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from swin_transformer_pytorch.training import train
from swin_transformer_pytorch.training.recipes.classification import Recipe

PROGRAM = """
import os, signal, sys
from swin_transformer_pytorch.training.tasks.classification.module import ClassificationTraining
from swin_transformer_pytorch.training import load_recipe, train

steps, step = 0, ClassificationTraining.training_step

def dying(self, batch, batch_idx):
    global steps
    steps += 1
    if steps > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

if __name__ == "__main__":
    ClassificationTraining.training_step = dying
    train(load_recipe(sys.argv[1], {"resume": sys.argv[2] == "resume"}))
"""


def run(
    recipe: Recipe, folder: Path, environment: dict[str, str], *, resume: bool = False, kill_after: int = 10_000
) -> int:
    (folder / "program.py").write_text(PROGRAM)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    arguments = [str(folder / "recipe.yaml"), "resume" if resume else "start", str(kill_after)]
    process = subprocess.run(
        [sys.executable, "-W", "error", str(folder / "program.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=folder,
    )
    if process.returncode not in (0, -signal.SIGKILL):
        pytest.fail(process.stderr[-3000:])
    return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does_and_resume(
    strategy: str, tiny: Callable[..., Recipe], environment: dict[str, str], tmp_path: Path
) -> None:
    # What is random in a step differs between the ranks, so it is left out where they are compared with one device.
    same: dict[str, Any] = {"data.augmentation.mixup": 0, "data.augmentation.cutmix": 0}
    config = {"patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "drop_path_rate": 0.0}
    same |= {"model.config": config, "trainer.checkpoint_every_steps": 4}
    single = train(tiny("single", same), progress=False)
    both = {**same, "trainer.devices": 2, "trainer.strategy": strategy, "data.batch_size": 160}
    recipe = tiny("both", both)
    assert run(recipe, tmp_path, environment, kill_after=9) == -signal.SIGKILL
    assert run(recipe, tmp_path, environment, resume=True) == 0
    actual = load_file(tmp_path / "both" / "model.safetensors")
    # Sums in another order differ by some 1e-5; a state that is not restored, by more than 1e-3.
    for name, tensor in load_file(single.weights).items():
        torch.testing.assert_close(actual[name], tensor, atol=1e-4, rtol=0, msg=name)
    torch.load(tmp_path / "both" / "last.ckpt", weights_only=True)
