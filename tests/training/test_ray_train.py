"""Ray Train around our training: the example trains as one process does, and goes on when a worker was killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from swin_transformer_pytorch import extras
from swin_transformer_pytorch.training import train
from swin_transformer_pytorch.training.recipes.classification import Recipe

EXAMPLE = Path(__file__).parents[2] / "examples/ray/train.py"
# The example, in which a worker kills itself in its ninth step, once.
PROGRAM = """
import os, runpy, signal, sys
names = runpy.run_path(sys.argv[1])
real = names["train_here"]

def train_here(config):
    from swin_transformer_pytorch.training.tasks.classification.module import ClassificationTraining
    steps, step = 0, ClassificationTraining.training_step

    def dying(self, batch, batch_idx):
        nonlocal steps
        steps += 1
        if steps == 9 and self.trainer.global_rank == 1:
            try:
                os.close(os.open(config["values"]["output"] + ".killed", os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return step(self, batch, batch_idx)

    ClassificationTraining.training_step = dying
    real(config)

if __name__ == "__main__":
    names["main"].__globals__["train_here"] = train_here
    print(names["main"](sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_worker_of_ray_train_is_killed(
    tiny: Callable[..., Recipe], environment: dict[str, str], tmp_path: Path
) -> None:
    try:
        extras.require("ray.train", extra="ray")
    except extras.MissingExtraError as error:
        pytest.skip(str(error))
    # What is random in a step differs between the ranks, so it is left out where they are compared with one device.
    same: dict[str, Any] = {"data.augmentation.mixup": 0, "data.augmentation.cutmix": 0}
    config = {"patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "drop_path_rate": 0.0}
    same |= {"model.config": config, "trainer.checkpoint_every_steps": 4}
    single = train(tiny("single", same), progress=False)
    recipe = tiny("both", {**same, "trainer.devices": 2, "data.batch_size": 160})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    (tmp_path / "program.py").write_text(PROGRAM)
    environment["HOME"] = str(tmp_path)
    words = ["--workers", "2", "--storage", str(tmp_path / "storage"), "--output", str(tmp_path / "both")]
    process = subprocess.run(
        [sys.executable, "program.py", str(EXAMPLE), str(tmp_path / "recipe.yaml"), *words],
        capture_output=True,
        text=True,
        timeout=500,
        env=environment,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr[-5000:]
    assert (tmp_path / "both.killed").exists(), "a worker was killed"
    assert f"weights and card: {tmp_path / 'both'}" in process.stdout
    actual = load_file(tmp_path / "both" / "model.safetensors")
    # Sums in another order differ by some 1e-5; a state that is not restored, by more than 1e-3.
    for name, tensor in load_file(single.weights).items():
        torch.testing.assert_close(actual[name], tensor, atol=1e-4, rtol=0, msg=name)
