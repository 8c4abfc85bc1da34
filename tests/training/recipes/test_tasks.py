"""The table of tasks, and the defaults in which their recipes differ."""

from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from swin_transformer_pytorch.models.config import Task
from swin_transformer_pytorch.training import load_recipe
from swin_transformer_pytorch.training.recipes.tasks import TASKS

OPTIMIZER = {"weight_decay": 0.05, "betas": [0.9, 0.999], "eps": 1e-8, "layer_decay": 1.0, "backbone_lr": 1.0}
DENSE_SCHEDULE = {"steps": None, "milestones": [], "gamma": 0.1, "power": 1.0, "min_lr": 0.0}
TRAINER = {
    "device": "auto",
    "devices": 1,
    "strategy": "auto",
    "precision": "auto",
    "accumulate": 1,
    "ema_decay": None,
    "seed": 0,
    "checkpoint_every_steps": 1000,
    "checkpoint_every_minutes": None,
    "validate_every_epochs": 1,
    "freeze": None,
    "patience": None,
    "loggers": [],
    "num_nodes": 1,
    "checkpoints": "whole",
    "compile": False,
    "timeout_minutes": 30.0,
}

# What each task's recipe has where it is silent, written out.
SILENT: dict[str, dict[str, dict[str, Any]]] = {
    "classification": {
        "optimizer": {**OPTIMIZER, "lr": 5e-4, "scale_lr": 512, "clip_grad_norm": 5.0},
        "schedule": {"epochs": 300, "warmup_epochs": None, "warmup_lr": 5e-7, "min_lr": 5e-6},
        "trainer": TRAINER,
    },
    "detection": {
        "optimizer": {**OPTIMIZER, "lr": 1e-4, "scale_lr": 16, "clip_grad_norm": None},
        "schedule": {**DENSE_SCHEDULE, "kind": "multistep", "epochs": 12, "warmup_steps": None, "warmup_ratio": 1e-3},
        "trainer": {**TRAINER, "validate_every_steps": None},
    },
    "segmentation": {
        "optimizer": {**OPTIMIZER, "lr": 6e-5, "weight_decay": 0.01, "scale_lr": 16, "clip_grad_norm": None},
        "schedule": {**DENSE_SCHEDULE, "kind": "poly", "epochs": 12, "warmup_steps": None, "warmup_ratio": 1e-6},
        "trainer": {**TRAINER, "validate_every_steps": None},
    },
    "panoptic": {
        "optimizer": {**OPTIMIZER, "lr": 1e-4, "backbone_lr": 0.1, "scale_lr": 16, "clip_grad_norm": 0.01},
        "schedule": {**DENSE_SCHEDULE, "kind": "multistep", "epochs": 12, "warmup_steps": 0, "warmup_ratio": 1e-3},
        "trainer": {**TRAINER, "validate_every_steps": None},
    },
    "pretraining": {
        "optimizer": {**OPTIMIZER, "lr": 2e-4, "scale_lr": 512, "clip_grad_norm": 5.0},
        "schedule": {
            "kind": "cosine",
            "epochs": 100,
            "warmup_epochs": None,
            "warmup_lr": 1e-6,
            "min_lr": 1e-5,
            "milestones": [],
            "gamma": 0.1,
        },
        "trainer": TRAINER,
    },
}
NAMES = {
    "classification": "swin_tiny_patch4_window7_224",
    "detection": "mask_rcnn_swin_tiny_patch4_window7",
    "segmentation": "upernet_swin_tiny_patch4_window7_512x512",
    "panoptic": "mask2former_swin_tiny_patch4_window7_panoptic",
    "pretraining": "simmim_swin_base_patch4_window6_192",
}


def read(task: str, folder: Path, **groups: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {"task": task, "model": {"name": NAMES[task]}, **groups}
    if task in ("detection", "segmentation", "panoptic"):
        tree["schedule"] = {"epochs": 12, **tree.get("schedule", {})}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_recipe(path).to_dict()


def test_every_task_has_its_recipe_and_its_preparation() -> None:
    assert tuple(TASKS) == get_args(Task)
    for task, entry in TASKS.items():
        assert entry.recipe.task == task
        assert callable(import_module(f"swin_transformer_pytorch.training.{entry.prepare}").prepare)


@pytest.mark.parametrize("task", SILENT)
def test_a_silent_recipe_has_its_tasks_defaults(task: str, tmp_path: Path) -> None:
    recipe = read(task, tmp_path)
    for group, expected in SILENT[task].items():
        assert recipe[group] == expected


@pytest.mark.parametrize(
    ("group", "given"),
    [
        ("optimizer", {"lr": 0.5}),
        ("optimizer", {"clip_grad_norm": 1.0}),
        ("schedule", {"min_lr": 1e-7}),
        ("trainer", {"seed": 7}),
        ("data", {"batch_size": 4}),
        ("data", {"augmentation": {"flip_prob": 0.25}}),
    ],
)
@pytest.mark.parametrize("task", SILENT)
def test_a_group_given_in_part_has_its_tasks_other_defaults(
    task: str, group: str, given: dict[str, Any], tmp_path: Path
) -> None:
    silent, recipe = read(task, tmp_path), read(task, tmp_path, **{group: given})
    expected = {**silent[group], **given}
    if "augmentation" in given:
        expected["augmentation"] = {**silent[group]["augmentation"], **given["augmentation"]}
    assert recipe[group] == expected
    assert {**recipe, group: None} == {**silent, group: None}


def test_a_dense_recipe_without_a_length_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"task": "detection", "model": {"name": NAMES["detection"]}}))
    with pytest.raises(ValueError, match=r"mine\.yaml: schedule\.epochs=None and schedule\.steps=None.*give one"):
        load_recipe(path)
