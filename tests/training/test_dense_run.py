"""Whole runs of detectors and segmenters: they resume to the bit, and a person's own folders take one line."""

from __future__ import annotations

import json
import math
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

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.scenes.files import write_scenes
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.training import RecipeError, TrainResult, load_recipe, train
from swin_transformer_pytorch.training.engine.callbacks import read_history
from swin_transformer_pytorch.training.engine.module import Training
from swin_transformer_pytorch.training.recipes.tasks import AnyRecipe

Make = Callable[..., AnyRecipe]

BACKBONE = {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "detection": {"fpn_dim": 8, "fc_dim": 8, "rpn_samples": 8, "roi_samples": 8},
    "segmentation": {"decode_dim": 8, "auxiliary_dim": 8, "auxiliary_index": 0, "dropout": 0.1},
    "panoptic": {
        "dim": 32,
        "attention_heads": 2,
        "encoder_dim": 32,
        "encoder_layers": 1,
        "feedforward_dim": 32,
        "decoder_layers": 2,
        "num_queries": 8,
        "loss_points": 64,
        "segment_threshold": 0.0,
    },
}
TINY: dict[str, Any] = {
    "data.kind": "scenes_sample",
    "data.num_scenes": 6,
    "data.num_val_scenes": 2,
    "data.scene_size": [64, 64],
    "data.batch_size": 2,
    "schedule.steps": 4,
    "schedule.warmup_steps": 2,
    "trainer.validate_every_steps": 2,
    "trainer.checkpoint_every_steps": 1,
    "trainer.device": "cpu",
}
MAIN = {"detection": "val_box_ap", "segmentation": "val_miou"}
TASKS = list(MAIN)
RUNS = {**MAIN, "panoptic": "val_pq"}


@pytest.fixture
def tiny(tmp_path: Path) -> Make:
    """`tiny("detection", "name", {"optimizer.lr": 1.0})`: the scenes' recipe, shrunken; output in that folder."""

    def make(task: str, name: str = "run", overrides: dict[str, Any] | None = None) -> AnyRecipe:
        config = {**CONFIGS[task], "backbone": {**BACKBONE, "drop_path_rate": 0.2}}
        values = {
            **TINY,
            "model.config": config,
            "model.weights": None,
            "output": str(tmp_path / name),
            **(overrides or {}),
        }
        return load_recipe(f"scenes_{task}", values)

    return make


class Stopped(Exception):
    """Stands for whatever ends a run."""


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    done, step = 0, Training.training_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        nonlocal done
        if done == steps:
            raise Stopped
        done += 1
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Training, "training_step", training_step)


def assert_same_end(first: TrainResult, second: TrainResult) -> None:
    one, other = (torch.load(result.last, weights_only=True) for result in (first, second))
    for part in ("state_dict", "ema_state_dict"):
        assert one[part].keys() == other[part].keys()
        for name in one[part]:
            assert torch.equal(one[part][name], other[part][name]), name
    states = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (one, other)]
    assert all(torch.equal(states[0][key]["exp_avg_sq"], states[1][key]["exp_avg_sq"]) for key in states[0])
    for line, again in zip(first.history, second.history, strict=True):
        assert {**line, "seconds": 0} == {**again, "seconds": 0}


@pytest.mark.parametrize("task", RUNS)
def test_a_run_leaves_everything_behind_and_resumes_to_the_bit(
    task: str, tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny(task, "whole"), progress=False)
    assert [(line["epoch"], line["step"]) for line in whole.history] == [(1, 2), (2, 4)]
    assert all(RUNS[task] in line for line in whole.history)
    parts = whole.history[-1]["train_losses"]
    assert sum(parts.values()) == pytest.approx(whole.history[-1]["train_loss"], rel=1e-5)
    assert whole.best_score == max(line[RUNS[task]] for line in whole.history)
    assert tuple(read_history(whole.output / "history.jsonl")) == whole.history

    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            train(tiny(task, "stopped"), progress=False)
    assert_same_end(whole, train(tiny(task, "stopped", {"resume": True}), progress=False))

    model = load_model(whole.weights)
    assert model.task == task
    last = torch.load(whole.last, weights_only=True)
    assert model.preprocessing is not None
    assert model.preprocessing.scale is None
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, last["ema_state_dict"][name])
    assert load_model(whole.best).classes == model.classes


def small(task: str, root: Path, output: Path, **overrides: Any) -> AnyRecipe:
    """The recipe for a person's own data, with a model that takes a second."""
    values = {
        "model.name": None,
        "model.weights": None,
        "model.config": {**CONFIGS[task], "backbone": BACKBONE},
        "model.config_overrides": {},
        "data.root": str(root),
        "data.batch_size": 2,
        "data.num_workers": 0,
        "data.scale": [96, 64],
        "schedule.epochs": 1,
        "schedule.warmup_steps": 1,
        "trainer.device": "cpu",
        "output": str(output),
    }
    if task == "detection":
        values |= {"data.augmentation.scales": [48, 64], "data.augmentation.max_long": 96}
    else:
        values |= {"data.augmentation.scale": [96, 64], "data.augmentation.crop_size": [64, 64]}
    return load_recipe(f"finetune_{task}", {**values, **overrides})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes to learn from and two to validate on, as files."""
    root = tmp_path_factory.mktemp("scenes")
    for split, number in (("train", 4), ("val", 2)):
        scenes = open_scenes("scenes_sample", split, num_scenes=number, image_size=(64, 96))  # type: ignore[arg-type]
        write_scenes(scenes, root, split)
    return root


def test_a_persons_own_coco_folder_takes_one_line(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = train(small("detection", folder, tmp_path / "run"), progress=False)
    assert result.history[-1]["step"] == 2
    model = load_model(result.weights)
    assert model.classes is not None
    assert model.classes[0] == "T-shirt/top"

    files = {
        f"data.{split}_{part}": str(path)
        for split in ("train", "val")
        for part, path in (
            ("images", folder / split),
            ("annotations", folder / "annotations" / f"instances_{split}.json"),
        )
    }
    # The next one starts from its weights, and finds everything by name.
    overrides = {"model.config": None, "model.weights": str(result.weights), "data.root": None, **files}
    again = train(small("detection", folder, tmp_path / "again", **overrides), progress=False)
    assert load_model(again.weights).classes == model.classes


def test_a_persons_own_images_and_label_maps_take_one_line(folder: Path, tmp_path: Path) -> None:
    files = {
        f"data.{split}_{part}": str(path)
        for split in ("train", "val")
        for part, path in (("images", folder / split), ("labels", folder / "labels" / split))
    }
    overrides = {"data.root": None, "data.classes": str(folder / "classes.txt"), **files}
    result = train(small("segmentation", folder, tmp_path / "run", **overrides), progress=False)
    model: Any = load_model(result.weights)
    assert model.classes[-1] == "ground"
    assert model.palette[-1] == (64, 64, 64)
    assert 0 <= result.metrics["val_miou"] <= 1


OPEN_SIZES = {
    "detection": dict.fromkeys(("data.scale", "data.augmentation.scales", "data.augmentation.max_long"), "auto"),
    "segmentation": dict.fromkeys(("data.scale", "data.augmentation.scale", "data.augmentation.crop_size"), "auto"),
}


@pytest.mark.parametrize("task", TASKS)
def test_open_sizes_and_warm_up_are_chosen_once_and_kept(
    task: str, tiny: Make, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    weights = train(tiny(task, "first", {"schedule.steps": 1}), progress=False).weights  # of images at their own size
    values = {**OPEN_SIZES[task], "model.config": None, "model.weights": str(weights), "schedule.warmup_steps": None}
    values |= {"trainer.checkpoint_every_steps": 1, "schedule.epochs": 2}
    caplog.clear()
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Stopped):
            train(small(task, folder, tmp_path / "run", **values), progress=False)
    said = ("data.scale=null, as the weights had it", "schedule.warmup_steps=0 was chosen, of the run's 4 steps")
    assert all(sum(line in message for message in caplog.messages) == 1 for line in said)
    assert "preprocessing differs" not in caplog.text
    held = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["recipe"]
    assert (held["data"]["scale"], held["schedule"]["warmup_steps"]) == (None, 0)
    if task == "segmentation":
        assert (held["data"]["augmentation"]["scale"], held["data"]["augmentation"]["crop_size"]) == (None, [64, 64])
    else:
        assert (held["data"]["augmentation"]["scales"], held["data"]["augmentation"]["max_long"]) == ([], 1333)

    # Nothing is chosen anew, whatever would be chosen now.
    with monkeypatch.context() as patch:
        patch.setattr("swin_transformer_pytorch.training.tasks.image_sizes.usual_sides", None)
        patch.setattr("swin_transformer_pytorch.training.engine.module.open_warmup", None)
        result = train(small(task, folder, tmp_path / "run", **values, resume=True), progress=False)
    assert load_model(result.weights).preprocessing.scale is None  # type: ignore[union-attr]
    assert torch.load(result.last, weights_only=True)["recipe"] == {**held, "resume": True}

    caplog.clear()
    values |= {"data.scale": [96, 64], "schedule.epochs": 1}
    train(small(task, folder, tmp_path / "other", **values), progress=False)
    assert "preprocessing differs from that of the weights: scale: None -> (96, 64)" in caplog.messages


@pytest.mark.parametrize(
    ("task", "overrides", "message"),
    [
        ("detection", {"data.kind": "coco"}, r"needs data\.root"),
        ("detection", {"data.kind": "scenes"}, r"needs data\.root"),
        ("segmentation", {"data.kind": "folder"}, r"needs data\.root"),
        ("detection", {"data.kind": "coco", "data.train_images": "x"}, r"data\.train_annotations is missing"),
        ("segmentation", {"data.kind": "folder", "data.val_labels": "x", "data.train_images": "x"}, "is missing"),
        ("detection", {"model.num_classes": 3}, "num_classes=3, but the data has 10"),
    ],
)
def test_what_cannot_be_done_is_named_at_once(task: str, overrides: dict[str, Any], message: str, tiny: Make) -> None:
    with pytest.raises(RecipeError, match=message):
        train(tiny(task, overrides=overrides), progress=False)


def test_htc_asks_for_label_maps(folder: Path, tmp_path: Path) -> None:
    config = {**CONFIGS["detection"], "method": "htc", "backbone": BACKBONE}
    with pytest.raises(RecipeError, match=r"stuffthingmaps"):
        train(small("detection", folder, tmp_path / "run", **{"model.config": config}), progress=False)


def test_htc_learns_from_label_maps_beside_the_annotations(folder: Path, tmp_path: Path) -> None:
    config = {**CONFIGS["detection"], "method": "htc", "num_semantic_classes": 11, "backbone": BACKBONE}
    values = {"model.config": config, "data.train_stuff": str(folder / "labels" / "train"), "data.batch_size": 4}
    result = train(small("detection", folder, tmp_path / "run", **values), progress=False)
    assert result.history[-1]["step"] == 1
    losses = result.history[-1]["train_losses"]
    assert all(math.isfinite(loss) for loss in losses.values())
    assert losses["loss_semantic_seg"] > 0
    model: Any = load_model(result.weights)
    assert (model.config.method, model.config.num_semantic_classes) == ("htc", 11)


def test_a_folder_without_annotations_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no annotations|no COCO annotations"):
        train(small("detection", tmp_path / "empty", tmp_path / "run"), progress=False)


def label_maps(root: Path, values: list[int], classes: list[str]) -> Path:
    """Four images to learn from and two to validate on, whose label maps hold these values; their classes."""
    for split, count in (("train", 4), ("val", 2)):
        for name in ("images", "labels"):
            (root / name / split).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (64, 64), "green").save(root / "images" / split / f"{index}.png")
            columns = np.repeat(np.array(values, dtype=np.uint8), 64 // len(values))
            Image.fromarray(np.tile(columns, (64, 1))).save(root / "labels" / split / f"{index}.png")
    (root / "classes.txt").write_text("\n".join(classes))
    return root


@pytest.mark.parametrize(
    ("values", "classes"), [([0, 255], ["background", "object"]), ([255, 255], ["object"]), ([1, 1], ["a", "b", "c"])]
)
def test_label_maps_that_teach_nothing_are_refused_before_the_first_step(
    values: list[int], classes: list[str], tmp_path: Path
) -> None:
    root = label_maps(tmp_path / "data", values, classes)
    with pytest.raises(DataError, match="nothing to tell apart: in all 4 label maps"):
        train(small("segmentation", root, tmp_path / "run"), progress=False)
    assert not (tmp_path / "run" / "history.jsonl").exists()


def test_the_mean_of_some_classes_says_of_how_many(
    tmp_path: Path, log_on_stderr: None, capfd: pytest.CaptureFixture[str]
) -> None:
    root = label_maps(tmp_path / "data", [0, 1], ["road", "sky", "tree"])
    result = train(small("segmentation", root, tmp_path / "run", **{"schedule.epochs": 4, "optimizer.lr": 0.01}))
    said = capfd.readouterr().err
    assert said.count("pixels of all 4 label maps: road 8,192, sky 8,192, tree 0;") == 1
    assert said.count("classes without a pixel in all 4 label maps: 1 of 3 (tree)") == 1
    metrics = result.history[-1]
    assert metrics["val_num_classes"] == 3
    assert f"over {metrics['val_miou_classes']} of 3 classes" in said
    assert metrics["val_miou_classes"] in (2, 3)


def test_what_is_taken_for_ade20k_is_said_once(
    tmp_path: Path, log_on_stderr: None, capfd: pytest.CaptureFixture[str]
) -> None:
    root = label_maps(tmp_path / "data", [0, 1, 2, 150], ["none"])
    for old, new in (("train", "training"), ("val", "validation")):
        (root / "images" / old).rename(root / "images" / new)
        (root / "labels" / old).rename(root / "labels" / new)
    (root / "labels").rename(root / "annotations")
    (root / "classes.txt").unlink()
    for kind, count in (("folder", 1), ("ade20k", 0)):
        result = train(small("segmentation", root, tmp_path / kind, **{"data.kind": kind}), progress=False)
        assert result.history[-1]["val_num_classes"] == 150
        assert capfd.readouterr().err.count("taken for ADE20K") == count


def test_weights_of_another_task_need_a_model(tiny: Make, tmp_path: Path) -> None:
    result = train(tiny("segmentation", overrides={"schedule.steps": 1}), progress=False)
    values = {"model.config": None, "model.weights": str(result.weights), "model.init": "official"}
    with pytest.raises(RecipeError, match="for segmentation and this recipe is for detection"):
        train(tiny("detection", "other", values), progress=False)
    # Only now it is known that the model has batch norms.
    with pytest.raises(RecipeError, match=r"data\.batch_size=1.*batch norm"):
        train(tiny("segmentation", "single", {**values, "data.batch_size": 1}), progress=False)


def spoil(root: Path, split: str, index: int, how: str) -> str:
    """Makes one image of a folder of scenes unusable, as people's data sets have it; what it is named by."""
    path, labels = (folder / f"{index:06d}.png" for folder in (root / split, root / "labels" / split))
    if how == "cut short":
        path.write_bytes(path.read_bytes()[:100])
    elif how == "another size":
        with Image.open(path) as image:
            image.resize((50, 40)).save(path)
    elif how == "a label beyond the classes":
        Image.fromarray(np.full((64, 64), 99, dtype=np.uint8)).save(labels)
    elif how == "a damaged label map":
        labels.write_bytes(labels.read_bytes()[:60])
    elif how == "no label map":
        labels.unlink()
    elif how == "damaged run lengths":
        path = root / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text())
        annotation = next(one for one in content["annotations"] if one["image_id"] == content["images"][index]["id"])
        annotation["segmentation"]["counts"] = [1, 2]
        path.write_text(json.dumps(content))
        return f"{path}: annotation {annotation['id']}: "
    return str(path)


def spoilt(root: Path, how: str, *places: tuple[str, int]) -> list[str]:
    """Six scenes to learn from and six to validate on, as files, with unusable ones in these places; their names."""
    for split in ("train", "val"):
        scenes = open_scenes("scenes_sample", split, num_scenes=6, image_size=(64, 64))  # type: ignore[arg-type]
        write_scenes(scenes, root, split)
    return [spoil(root, *place, how) for place in places]


@pytest.mark.parametrize(
    ("task", "how", "workers"),
    [
        ("detection", "cut short", 0),
        ("detection", "another size", 0),
        ("detection", "damaged run lengths", 0),
        ("segmentation", "cut short", 2),
        ("segmentation", "another size", 0),
        ("segmentation", "a label beyond the classes", 0),
        ("segmentation", "a damaged label map", 0),
    ],
)
def test_an_unusable_image_is_named_once_and_counted_and_the_run_goes_on(
    task: str, how: str, workers: int, tmp_path: Path, log_on_stderr: None, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "damaged"
    names = spoilt(root, how, ("train", 1), ("val", 1))
    recipe = small(task, root, tmp_path / "run", **{"data.num_workers": workers, "schedule.epochs": 2})
    result = train(recipe, progress=False)
    assert result.unusable == (
        "1 of 6 training images could not be used",
        "1 of 6 validation images could not be used",
    )
    said = capfd.readouterr().err
    assert said.count("skipped: ") == 2
    assert [said.count(name) for name in names] == [1, 1]


@pytest.mark.parametrize("how", ["no label map", "a damaged label map"])
def test_an_image_without_its_map_of_stuff_is_named_once_and_counted(
    how: str, tmp_path: Path, log_on_stderr: None, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "damaged"
    spoilt(root, how, ("train", 1))
    config = {**CONFIGS["detection"], "method": "htc", "num_semantic_classes": 11, "backbone": BACKBONE}
    stuff = root / "labels" / "train"
    values = {"model.config": config, "data.train_stuff": str(stuff), "schedule.epochs": 2}
    result = train(small("detection", root, tmp_path / "run", **values), progress=False)
    assert result.unusable == ("1 of 6 training images could not be used",)
    assert capfd.readouterr().err.count(f"skipped: {stuff / '000001.png'} ") == 1


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("task", TASKS)
def test_more_than_a_fifth_of_unusable_images_ends_the_run(task: str, split: str, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    spoilt(root, "cut short", (split, 1), (split, 4))
    with pytest.raises(DataError, match=rf"2 of 6 {'training' if split == 'train' else 'validation'} images.*20%"):
        train(small(task, root, tmp_path / "run"), progress=False)


TWO_PROCESSES = """
import sys
from swin_transformer_pytorch.training import load_recipe, train

if __name__ == "__main__":
    train(load_recipe(sys.argv[1]), progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "strategy"),
    # Of a Mask2Former `test_mask_run` has "ddp".
    [(task, strategy) for task in RUNS for strategy in ("ddp", "fsdp") if (task, strategy) != ("panoptic", "ddp")],
)
def test_two_processes_train_and_validate_together(
    task: str, strategy: str, tiny: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    overrides = {"trainer.devices": 2, "trainer.strategy": strategy, "data.num_val_scenes": 3}
    recipe = tiny(task, "both", overrides)
    (tmp_path / "program.py").write_text(TWO_PROCESSES)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    command = [sys.executable, "-W", "error", str(tmp_path / "program.py"), str(tmp_path / "recipe.yaml")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    history = read_history(tmp_path / "both" / "history.jsonl")
    assert [line["step"] for line in history] == [2, 4]
    # What two processes found together is what one finds with the same weights.
    overrides = {"model.config": None, "model.init": "official", "model.weights": str(tmp_path / "both" / "last.ckpt")}
    overrides |= {"optimizer.lr": 1e-12, "schedule.steps": 1, "data.num_val_scenes": 3, "trainer.ema_decay": None}
    alone = train(tiny(task, "alone", overrides), progress=False)
    if task != "segmentation":  # whose batch norms go on moving
        assert alone.metrics[RUNS[task]] == pytest.approx(history[-1][RUNS[task]], abs=1e-3)
    assert load_model(tmp_path / "both" / "model.safetensors").task == task
