"""A run so small that it takes a second: 6 steps an epoch on the embedded images, with all randomness on."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import swin_transformer_pytorch
from swin_transformer_pytorch.training import load_recipe
from swin_transformer_pytorch.training.recipes.classification import Recipe

TINY: dict[str, Any] = {
    "model.config": {
        "patch_size": 4,
        "embed_dim": 8,
        "depths": [1, 2],
        "num_heads": [1, 2],
        "window_size": 4,
        "drop_path_rate": 0.2,
    },
    "data.batch_size": 320,
    "data.augmentation.erase_prob": 0.3,
    "data.augmentation.mixup": 0.8,
    "data.augmentation.cutmix": 1.0,
    "schedule.epochs": 2,
    "schedule.warmup_epochs": 0.5,
    "trainer.checkpoint_every_steps": 1,
    "trainer.device": "cpu",
}


@pytest.fixture
def environment() -> dict[str, str]:
    """For processes of their own: this package is found from any folder, and two of them fit on two cores."""
    package = str(Path(swin_transformer_pytorch.__file__).parents[1])
    path = os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def log_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings go to stderr, as outside of tests; `capfd` then also has those of worker processes."""
    monkeypatch.setattr(logging.getLogger("swin_transformer_pytorch"), "handlers", [logging.lastResort])


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Recipe]:
    """`tiny("name", {"optimizer.lr": 1.0})`: the demo's recipe, shrunken, with its output in a folder of that name."""

    def make(name: str = "run", overrides: dict[str, Any] | None = None) -> Recipe:
        values = {**TINY, "output": str(tmp_path / name), **(overrides or {})}
        return load_recipe("demo_classification", values)

    return make
