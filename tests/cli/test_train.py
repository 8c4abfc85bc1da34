"""`swin train`: recipes by name or file, keys as options, and a checkpoint that needs nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from swin_transformer_pytorch.commands.train import split_flags
from swin_transformer_pytorch.training import list_recipes, load_recipe


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A person's own folder: two classes of four pictures."""
    folder = tmp_path / "photos"
    for name, colour in (("daisy", (250, 240, 200)), ("rose", (200, 20, 60))):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (20 + number, 24), colour).save(folder / name / f"{number}.jpg")
    return folder


@pytest.fixture
def recipe(tmp_path: Path, photos: Path) -> Path:
    """Two epochs of a tiny model on that folder."""
    path = tmp_path / "tiny.yaml"
    model = {"patch_size": 4, "embed_dim": 8, "depths": [1], "num_heads": [1], "window_size": 4}
    content = {
        "model": {"config": model},
        "data": {"root": str(photos), "image_size": 16, "batch_size": 2, "num_workers": 0, "val_fraction": 0.25},
        "schedule": {"epochs": 2, "warmup_epochs": 0.5},
        "trainer": {"device": "cpu"},
        "output": str(tmp_path / "run"),
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_trains_on_a_persons_folder_and_predicts_with_the_result_alone(swin, recipe, photos, tmp_path) -> None:
    outcome = swin("train", recipe)
    assert outcome.code == 0, outcome.err
    run = tmp_path / "run"
    for file in ("model.safetensors", "best.ckpt", "last.ckpt"):
        assert str(run / file) in outcome.out
        assert (run / file).is_file()
    # It is always 1 with two classes.
    assert "top-1" in outcome.out and "top-5" not in outcome.out
    assert "| val_top1 |" in (card := (run / "README.md").read_text()) and "val_top5" not in card
    assert json.loads((run / "history.jsonl").read_text().splitlines()[0])["val_top5"] == 1
    for file in ("best.ckpt", "model.safetensors"):
        predicted = swin(
            "predict", "--weights", run / file, photos / "rose" / "0.jpg", "--output", "-", "--device", "cpu"
        )
        assert predicted.code == 0, predicted.err
        assert sorted(json.loads(predicted.out)["names"]) == ["daisy", "rose"]


@pytest.mark.parametrize("resumed", [False, True])
def test_the_summary_says_of_how_many_classes_the_mean_is(swin, tmp_path, resumed) -> None:
    backbone = {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    content = {
        "task": "segmentation",
        "model": {"config": {"backbone": backbone, "decode_dim": 8, "auxiliary_dim": 8, "auxiliary_index": 0}},
        "data": {"kind": "scenes_sample", "num_scenes": 2, "num_val_scenes": 1, "scene_size": [64, 64]},
        "schedule": {"steps": 1, "warmup_steps": 0},
        "trainer": {"device": "cpu"},
        "output": str(tmp_path / "run"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    outcome = swin("train", tmp_path / "recipe.yaml", "--data.num_workers", 0)
    assert outcome.code == 0, outcome.err
    line = json.loads((tmp_path / "run" / "history.jsonl").read_text())
    over = f"mIoU {line['val_miou']:.2%} over {line['val_miou_classes']} of 11 classes"
    assert over in outcome.err
    if resumed:
        outcome = swin("train", tmp_path / "recipe.yaml", "--data.num_workers", 0, "--resume")
    rows = [" ".join(row.split()) for row in outcome.out.splitlines()]
    assert any(row.startswith(over) for row in rows), rows


def test_resume_continues_the_run(swin, recipe, tmp_path) -> None:
    assert swin("train", recipe).code == 0
    history = (tmp_path / "run" / "history.jsonl").read_text()
    again = swin("train", recipe)
    assert again.code == 2
    assert "resume" in again.err
    assert swin("train", recipe, "--resume").code == 0
    assert (tmp_path / "run" / "history.jsonl").read_text() == history


def test_a_runs_folder_is_all_that_resuming_takes(swin, recipe, tmp_path) -> None:
    assert swin("train", recipe, "--schedule.epochs", "1").code == 0
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    outcome = swin("train", "--resume", moved)
    assert outcome.code == 0
    assert "resuming a run that is finished" in outcome.err
    assert str(moved / "model.safetensors") in outcome.out
    assert not (tmp_path / "run").exists()
    lost = swin("train", "--resume", tmp_path / "run")
    assert lost.code == 2
    assert str(tmp_path / "run") in lost.err


def test_print_config_is_a_recipe_with_what_was_changed(swin, recipe, tmp_path) -> None:
    outcome = swin("train", recipe, "--optimizer.lr", "3e-5", "--data.augmentation.flip_prob=0", "--print-config")
    assert outcome.code == 0
    printed = yaml.safe_load(outcome.out)
    assert printed["optimizer"]["lr"] == 3e-5
    assert printed["data"]["augmentation"]["flip_prob"] == 0
    assert not (tmp_path / "run").exists()
    copy = tmp_path / "copy.yaml"
    copy.write_text(outcome.out)
    assert yaml.safe_load(swin("train", copy, "--print-config").out) == printed


def test_help_lists_every_recipe_and_key(swin) -> None:
    out = swin("train", "--help").out
    assert all(f"  {name}\n" in out for name in list_recipes())
    for key in ("--data.root", "--optimizer.layer_decay", "--trainer.precision", "--data.augmentation.mixup"):
        assert key in out


def test_a_run_that_is_not_there_is_named(swin, tmp_path) -> None:
    outcome = swin("train", "--resume", tmp_path / "nosuch")
    assert (
        outcome.code == 2 and "nosuch does not exist; give a YAML file, a recipe's name, or the folder" in outcome.err
    )


def test_help_of_a_recipe_lists_its_tasks_keys(swin) -> None:
    out = swin("train", "finetune_detection", "--help").out
    for key in ("--data.box_masks", "--data.augmentation.scales", "--schedule.milestones", "--optimizer.layer_decay"):
        assert key in out
    assert "--data.augmentation.mixup" not in out
    recipe = load_recipe("finetune_detection")
    for key, value in (("optimizer.lr", recipe.optimizer.lr), ("schedule.epochs", "auto"), ("output", recipe.output)):
        shown = re.search(rf"\n  --{re.escape(key)} .*?default:\s*(.*?)\)", out, re.DOTALL)
        assert shown is not None and shown[1] == str(value), key
    assert "--data.ignore_label" in swin("train", "scenes_segmentation", "--help").out
    unknown = swin("train", "finetune_detectoin", "--help")
    assert unknown.code == 2
    assert "did you mean finetune_detection" in unknown.err


@pytest.mark.parametrize(
    ("words", "pairs", "flags"),
    [
        ([], [], set()),
        (["--resume"], [], {"--resume"}),
        (["--resume", "--a.b", "1"], ["--a.b", "1"], {"--resume"}),
        (["--resume", "true"], ["--resume=true"], set()),
        (["--a.b", "-1", "--c=2", "--print-config"], ["--a.b", "-1", "--c=2"], {"--print-config"}),
    ],
)
def test_flags_are_told_from_keys(words, pairs, flags) -> None:
    assert split_flags(words) == (pairs, flags)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--data.root", "nowhere"], "nowhere"),
        (["--trainer.precision", "8-bit"], "precision"),
        (["--schedule.epochs", "0"], "schedule.epochs"),
        (["--model.name", "swin_tini"], "swin_tini"),
    ],
)
def test_what_cannot_be_trained_is_one_error(swin, recipe, words, hint) -> None:
    outcome = swin("train", recipe, *words)
    assert outcome.code == 2
    assert hint in outcome.err
    assert "Traceback" not in outcome.err
