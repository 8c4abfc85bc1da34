"""Whole runs of Mask2Former for objects and label maps: they learn, resume to the bit, and take what people have."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.training.test_dense_run import (
    TWO_PROCESSES,
    Stopped,
    assert_same_end,
    stop_after,
)

from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.scenes.files import write_scenes
from swin_transformer_pytorch.models.mask2former import Mask2Former
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.training import RecipeError, load_recipe, train
from swin_transformer_pytorch.training.engine.callbacks import read_history
from swin_transformer_pytorch.training.recipes.tasks import AnyRecipe
from swin_transformer_pytorch.training.tasks.dense.learning import tell_queries
from swin_transformer_pytorch.training.tasks.detection.prepare import prepare as prepare_detection
from swin_transformer_pytorch.training.tasks.models import build_model
from swin_transformer_pytorch.training.tasks.panoptic.prepare import prepare as prepare_panoptic

Make = Callable[..., AnyRecipe]

ANSWERS = {"detection": "instance", "segmentation": "semantic"}
TASKS = list(ANSWERS)
BACKBONE = {
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 4,
    "drop_path_rate": 0.0,
}
CONFIG: dict[str, Any] = {
    "backbone": BACKBONE,
    "num_queries": 10,
    "dim": 32,
    "attention_heads": 4,
    "encoder_dim": 32,
    "encoder_layers": 1,
    "feedforward_dim": 64,
    "decoder_layers": 3,
    "loss_points": 256,
}
TINY: dict[str, Any] = {
    "data.kind": "scenes_sample",
    "data.num_scenes": 2,
    "data.num_val_scenes": 2,
    "data.scene_size": [64, 64],
    "data.batch_size": 2,
    "schedule.steps": 4,
    "schedule.warmup_steps": 2,
    "trainer.validate_every_steps": 2,
    "trainer.device": "cpu",
}


def config(task: str, **fields: Any) -> dict[str, Any]:
    return {"answers": ANSWERS[task], **CONFIG, **fields}


@pytest.fixture
def tiny(tmp_path: Path) -> Make:
    """`tiny("detection", "name", {"optimizer.lr": 1.0})`: the scenes' recipe, shrunken; output in that folder."""

    def make(task: str, name: str = "run", overrides: dict[str, Any] | None = None) -> AnyRecipe:
        values = {**TINY, "model.config": config(task), "output": str(tmp_path / name), **(overrides or {})}
        return load_recipe(f"scenes_{task}", values)

    return make


@pytest.mark.parametrize("task", TASKS)
def test_two_images_are_learnt_by_heart(task: str, tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_training(kind: Any, split: Any, **options: Any) -> Any:
        return open_scenes(kind, "train", **options)

    monkeypatch.setattr("swin_transformer_pytorch.data.scenes.dataset.open_scenes", of_training)
    overrides = {"schedule.steps": 100, "schedule.warmup_steps": 10, "trainer.validate_every_steps": 25}
    overrides |= {"optimizer.lr": 2e-3, "optimizer.clip_grad_norm": 0.1, "data.augmentation.flip_prob": 0}
    result = train(tiny(task, overrides=overrides), progress=False)
    first, last = result.history[0], result.history[-1]
    assert set(last["train_losses"]) == {"loss_ce", "loss_mask", "loss_dice"}
    assert all(last["train_losses"][name] < 0.4 * first["train_losses"][name] for name in last["train_losses"])
    if task == "detection":
        assert min(last["val_box_ap50"], last["val_mask_ap50"]) > 0.9
        assert min(last["val_box_ap"], last["val_mask_ap"]) > 0.6
        assert result.best_score == max(line["val_mask_ap"] for line in result.history)
    else:
        assert last["val_miou"] > 0.75

    model = load_model(result.weights)
    assert isinstance(model, Mask2Former) and model.task == task and model.classes is not None
    assert model.preprocessing is not None
    assert (model.preprocessing.antialias, model.preprocessing.size_divisor) == (True, 32)
    assert (result.output / "validation.png").is_file()
    # What validation has measured is what the predictor answers.
    scene = open_scenes("scenes_sample", "train", num_scenes=2, image_size=(64, 64))[0]
    answer: Any = Predictor(model, device="cpu")(scene.image)
    if task == "detection":
        assert sorted(answer.labels[answer.scores > 0.5]) == sorted(scene.labels)
    else:
        assert (answer.labels == scene.semantic).mean() > 0.9


def test_a_stopped_run_ends_as_the_whole_one(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    task = "detection"
    same = {"model.config": config(task, backbone={**BACKBONE, "drop_path_rate": 0.2}), "data.num_scenes": 6}
    same |= {"trainer.checkpoint_every_steps": 1}
    whole = train(tiny(task, "whole", same), progress=False)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            train(tiny(task, "stopped", same), progress=False)
    assert_same_end(whole, train(tiny(task, "stopped", {**same, "resume": True}), progress=False))


def own(task: str, root: Path, output: Path, **overrides: Any) -> AnyRecipe:
    """The recipe for a person's own data, with a model that takes a second."""
    values = {
        "model.name": None,
        "model.weights": None,
        "model.config": config(task),
        "model.config_overrides": {},
        "data.root": str(root),
        "data.num_workers": 0,
        "trainer.device": "cpu",
        "schedule.epochs": 1,
        "output": str(output),
    }
    return load_recipe(f"finetune_mask2former_{ANSWERS[task]}", {**values, **overrides})


def scenes(root: Path, train_images: int = 3) -> Path:
    for split, count in (("train", train_images), ("val", 2)):
        write_scenes(open_scenes("scenes_sample", split, num_scenes=count, image_size=(64, 96)), root, split)  # type: ignore[arg-type]
    return root


@pytest.mark.parametrize("task", TASKS)
def test_a_persons_own_folder_and_then_other_classes(
    task: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = scenes(tmp_path / "scenes")
    result = train(own(task, root, tmp_path / "run"), progress=False)
    assert any(message.startswith("data.scale=") and "by the training images" in message for message in caplog.messages)
    model: Any = load_model(result.weights)
    assert model.preprocessing.antialias and model.config.answers == ANSWERS[task]

    # A layer of classes for others is all that is begun afresh, of a model that answers otherwise too.
    classes = ("a", "b", "c")
    other = next(each for each in TASKS if each != task)
    weights = {"model.weights": str(result.weights), "model.config": None}
    for wanted, start in ((task, weights), (other, {"model.weights": str(result.weights)})):
        recipe = own(wanted, root, tmp_path / "next", **start).model
        begun: Any = build_model(recipe, wanted, classes)  # type: ignore[arg-type]
        fresh = {name for name, value in begun.state_dict().items() if not torch.equal(value, model.state_dict()[name])}
        assert fresh == {f"sem_seg_head.predictor.class_embed.{part}" for part in ("weight", "bias")}
        assert begun.config.answers == ANSWERS[wanted]
    assert begun.classes == classes and begun.config.num_classes == 3

    # A frozen backbone stays as it is.
    choice: Any = {"data.classes": {"clothes": ["Dress", "Coat"], "other": ["*"]}} if task == "detection" else {}
    values = {**weights, **choice, "trainer.freeze": "backbone", "optimizer.lr": 0.01, "schedule.warmup_steps": 0}
    again = train(own(task, root, tmp_path / "again", **values), progress=False)
    learnt: Any = load_model(again.weights)
    assert learnt.num_classes == (2 if choice else model.num_classes)
    changed = {name for name, value in learnt.state_dict().items() if not torch.equal(value, model.state_dict()[name])}
    assert "sem_seg_head.predictor.query_feat.weight" in changed
    assert not any(name.startswith("backbone.") for name in changed)


def test_images_without_objects_teach_too(tmp_path: Path) -> None:
    root = scenes(tmp_path / "scenes")
    path = root / "annotations" / "instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] != document["images"][0]["id"]]
    path.write_text(json.dumps(document))
    jitter = {"data.augmentation.jitter_range": [0.1, 2.0], "data.augmentation.fixed_size": [64, 64]}
    for keep, steps in ((True, 3), (False, 2)):
        values = {"data.keep_empty": keep, "data.batch_size": 1, **jitter}
        result = train(own("detection", root, tmp_path / str(keep), **values), progress=False)
        assert result.history[-1]["step"] == steps


@pytest.mark.parametrize(("task", "what"), [("detection", "objects"), ("panoptic", "segments")])
def test_more_targets_than_queries_are_told_before_a_run(
    task: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(ANSWERS, "panoptic", "panoptic")
    architecture = {"model.config": config(task, num_queries=1)}
    recipe: Any = own(task, scenes(tmp_path / "data"), tmp_path / "run", **architecture)
    (prepare_panoptic if task == "panoptic" else prepare_detection)(recipe, "cpu")
    assert re.search(rf"\d of 3 training images have more {what}, up to \d+, than the model's 1 quer", caplog.text)
    tell_queries([20, 3], 20, 2, what=what)
    tell_queries([21, 60, 3], 20, 9, what=what)
    assert "20 queries: those" in caplog.messages[-1] and "2 of 3 training images (look" in caplog.messages[-1]
    assert "2 of 2" not in caplog.text and "1 of 2" not in caplog.text


def test_one_image_a_step_is_enough_for_label_maps(tmp_path: Path) -> None:
    root = scenes(tmp_path / "scenes", train_images=1)
    result = train(own("segmentation", root, tmp_path / "run", **{"data.batch_size": 1}), progress=False)
    assert result.history[-1]["step"] == 1 and result.history[-1]["train_loss"] > 0


@pytest.mark.parametrize(
    ("task", "overrides", "message"),
    [
        ("segmentation", {"loss.dice_weight": 1.0}, "a Mask2Former's losses are of masks: leave loss out"),
        (
            "segmentation",
            {"model.config": config("detection")},
            "answers='instance' is for detection, not segmentation",
        ),
        ("detection", {"model.config": config("detection", dim=33)}, "dim=33"),
    ],
)
def test_what_cannot_be_done_is_named(task: str, overrides: dict[str, Any], message: str, tiny: Make) -> None:
    with pytest.raises(RecipeError, match=message):
        train(tiny(task, overrides=overrides), progress=False)


def same_points(count: int, points: int, *, like: torch.Tensor, generator: object) -> torch.Tensor:
    """In place of random ones, which differ between processes."""
    place = torch.arange(1, points + 1, dtype=like.dtype)
    return torch.stack([place * 0.618034 % 1, place * 0.754878 % 1], dim=1).expand(count, -1, -1)


PROGRAM = f"""
import torch
from swin_transformer_pytorch.heads import mask_losses

{inspect.getsource(same_points)}
mask_losses._uniform = same_points
{TWO_PROCESSES}"""


@pytest.mark.slow
def test_two_processes_train_as_one_does(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A step of both images; where each query counts alike, whatever it is matched with, shares have the mean of all.
    root, same = scenes(tmp_path / "data", train_images=2), {"model.config": config("detection", none_weight=1.0)}
    same |= {"schedule.epochs": 2, "schedule.warmup_steps": 0, "optimizer.lr": 1e-3, "data.scale": None}
    both, alone = (
        own("detection", root, tmp_path / name, **same, **devices)
        for name, devices in (
            ("both", {"trainer.devices": 2, "data.batch_size": 1}),
            ("alone", {"data.batch_size": 2}),
        )
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(both.to_dict()))
    command = [sys.executable, "-W", "error", str(tmp_path / "program.py"), str(tmp_path / "both.yaml")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    monkeypatch.setattr("swin_transformer_pytorch.heads.mask_losses._uniform", same_points)
    expected = train(alone, progress=False)
    for line, other in zip(read_history(tmp_path / "both" / "history.jsonl"), expected.history, strict=True):
        assert line["step"] == other["step"]
        for name in ("train_loss", "val_mask_ap"):
            assert line[name] == pytest.approx(other[name], rel=1e-4, abs=1e-4)
    found = load_file(tmp_path / "both" / "model.safetensors")
    for name, value in load_file(expected.weights).items():
        torch.testing.assert_close(found[name], value, atol=2e-4, rtol=0, msg=name)
