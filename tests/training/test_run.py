"""Whole runs: what they leave behind, a person's own folder, and mistakes that are named before hours are spent."""

import logging
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.extras import MissingExtraError
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.training import RecipeError, load_recipe, train
from swin_transformer_pytorch.training.engine.callbacks import read_history
from swin_transformer_pytorch.training.recipes.classification import Recipe
from swin_transformer_pytorch.training.run import choose_device
from swin_transformer_pytorch.training.tasks.classification.module import DivergedError

Make = Callable[..., Recipe]
OVERVIEW = (
    "data",
    "images",
    "classes",
    "image size",
    "model",
    "device",
    "batch",
    "length",
    "peak learning rate",
    "output",
)
COLOURS = {"blue": (30, 40, 200), "green": (30, 190, 50), "red": (210, 40, 30)}


def write_photos(root: Path, classes: dict[str, tuple[int, int, int]], count: int = 8) -> Path:
    """Photos whose colour is their class."""
    random = np.random.default_rng(0)
    for name, colour in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(random.normal(colour, 25, size=(40, 50, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def small_finetune(root: Path, output: Path, **overrides: Any) -> Recipe:
    values = {
        "data.root": str(root),
        "data.image_size": 32,
        "data.num_workers": 0,
        "model.weights": None,
        "model.config_overrides": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        "optimizer.lr": 3e-3,
        "optimizer.layer_decay": 1.0,
        "schedule.epochs": 6,
        "trainer.device": "cpu",
        "output": str(output),
    }
    return load_recipe("finetune", values | {name.replace("__", "."): value for name, value in overrides.items()})


def test_a_run_learns_and_leaves_everything_behind(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tiny(overrides={"schedule.epochs": 3, "data.batch_size": 100, "trainer.checkpoint_every_steps": 7})
    result = train(recipe)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert result.top1 > 0.2
    assert result.best_top1 == max(line["val_top1"] for line in result.history)
    assert tuple(read_history(result.output / "history.jsonl")) == result.history
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1/3", "2/3", "3/3"]
    known = ("epoch", "about ", *(f" {name} " for name in OVERVIEW))
    assert not [line for line in lines if line.strip() and not line.startswith(known)], "Lightning's tips are kept back"

    model = load_model(result.weights)
    assert model.classes is not None
    assert model.classes[0] == "T-shirt/top"
    assert model.preprocessing is not None
    assert model.preprocessing.channels == 1
    assert {path.name for path in result.output.iterdir()} == {
        *("recipe.yaml", "history.jsonl", "history.csv", "curves.png", "validation.png"),
        *("last.ckpt", "best.ckpt", "model.safetensors", "README.md", "run.lock"),
    }
    card = (result.output / "README.md").read_text(encoding="utf-8")
    assert f"| val_top1 | {result.top1:.4g} |" in card and f'Predictor("{result.weights}")' in card
    assert "2,000 to learn from, 1,000 to validate on" in card and "| peak learning rate |" in card
    last = torch.load(result.last, weights_only=True)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, last["ema_state_dict"][name])
    for path in (result.last, result.best):
        assert load_model(path).classes == model.classes
    with safe_open(result.weights, framework="pt") as file:
        assert "swin" in (file.metadata() or {})


def test_a_persons_own_folder_takes_one_line_and_predicts_afterwards(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", COLOURS)
    result = train(small_finetune(photos, tmp_path / "run"), progress=False)
    predictor = Predictor(result.weights, device="cpu")
    assert predictor.classes == ("blue", "green", "red")
    assert predictor(photos / "red" / "0.png").names[0] == "red"
    assert result.top5 == 1.0


def test_another_run_starts_from_a_checkpoint_of_ours_with_other_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = train(small_finetune(write_photos(tmp_path / "a", COLOURS), tmp_path / "first"), progress=False)
    two = write_photos(tmp_path / "b", {"black": (10, 10, 10), "white": (245, 245, 245)})
    recipe = small_finetune(
        two,
        tmp_path / "second",
        model__name=None,
        model__config_overrides={"drop_path_rate": 0.0},
        model__weights=str(first.weights),
        schedule__epochs=3,
    )
    with caplog.at_level(logging.WARNING):
        result = train(recipe, progress=False)
    assert "head.weight" in caplog.text
    model = load_model(result.weights)
    assert model.classes == ("black", "white")
    assert model.config.embed_dim == 8


def test_fewer_photos_than_a_batch_are_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = write_photos(tmp_path / "photos", COLOURS, count=4)
    with caplog.at_level(logging.WARNING):
        result = train(
            small_finetune(photos, tmp_path / "run", schedule__epochs=3, data__batch_size=16), progress=False
        )
    assert "larger than the 9 training images" in caplog.text
    assert result.history[-1]["step"] == 3


def write_split_photos(root: Path, *damaged: str) -> Path:
    """24 photos to learn from and 6 to validate on; those of these names are cut short."""
    write_photos(root / "train", COLOURS)
    write_photos(root / "val", COLOURS, count=2)
    for name in damaged:
        (root / name).write_bytes((root / name).read_bytes()[:100])
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_photo_is_named_once_and_counted_and_the_run_goes_on(
    workers: int, tmp_path: Path, log_on_stderr: None, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = ("train/red/0.png", "val/blue/1.png")
    photos = write_split_photos(tmp_path / "photos", *damaged)
    recipe = small_finetune(photos, tmp_path / "run", schedule__epochs=3, data__num_workers=workers)
    result = train(recipe, progress=False)
    assert result.unusable == (
        "1 of 24 training images could not be used",
        "1 of 6 validation images could not be used",
    )
    said = capfd.readouterr().err
    assert [said.count(f"skipped: {photos / name} ") for name in damaged] == [1, 1]


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ([f"train/red/{index}.png" for index in range(5)], "5 of 24 training images could not be used, more than 20%"),
        (["val/red/0.png", "val/blue/1.png"], "2 of 6 validation images could not be used, more than 20%"),
    ],
)
def test_more_than_a_fifth_of_damaged_photos_ends_the_run(damaged: list[str], message: str, tmp_path: Path) -> None:
    photos = write_split_photos(tmp_path / "photos", *damaged)
    with pytest.raises(DataError, match=message):
        train(small_finetune(photos, tmp_path / "run", schedule__epochs=3, data__batch_size=16), progress=False)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny: Make) -> None:
    first, again, other = (
        load_model(train(tiny(name, {"schedule.epochs": 1, "trainer.seed": seed}), progress=False).weights)
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_learning_rates_scale_with_the_whole_batch(tiny: Make) -> None:
    overrides = {"optimizer.scale_lr": 160, "trainer.accumulate": 2, "schedule.epochs": 1, "schedule.warmup_epochs": 0}
    result = train(tiny(overrides={**overrides, "schedule.min_lr": 1e-4}), progress=False)
    # 320 images x 2 accumulated batches are 4 times the reference.
    assert result.history[-1]["lr"] == pytest.approx(4e-4)
    first = torch.load(result.last, weights_only=True)["optimizer_states"][0]["param_groups"][0]
    assert first["initial_lr"] == pytest.approx(4 * 3e-3)


def test_validation_is_as_often_as_asked_and_after_the_last_epoch(tiny: Make) -> None:
    result = train(tiny(overrides={"schedule.epochs": 3, "trainer.validate_every_epochs": 2}), progress=False)
    assert ["val_top1" in line for line in result.history] == [False, True, True]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.kind": "folder"}, r"data\.root"),
        ({"model.num_classes": 3}, r"num_classes=3, but the data has 10"),
        ({"trainer.precision": "16-mixed"}, "16-mixed' needs a CUDA GPU"),
        ({"trainer.device": "mps"}, r"trainer\.device='mps'"),
    ],
)
def test_what_cannot_be_done_is_named_at_once(overrides: dict[str, Any], message: str, tiny: Make) -> None:
    if torch.backends.mps.is_available() and "trainer.device" in overrides:
        pytest.skip("there is one here")
    with pytest.raises(RecipeError, match=message):
        train(tiny(overrides=overrides), progress=False)


def test_folders_that_cannot_be_trained_on_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        train(small_finetune(tmp_path / "nowhere", tmp_path / "run"), progress=False)
    one = write_photos(tmp_path / "one", {"red": COLOURS["red"]})
    with pytest.raises(DataError, match="'red'"):
        train(small_finetune(one, tmp_path / "run"), progress=False)
    both = tmp_path / "both"
    write_photos(both / "train", COLOURS)
    write_photos(both / "val", {"red": COLOURS["red"], "rde": COLOURS["red"]})
    with pytest.raises(DataError, match="rde"):
        train(small_finetune(both, tmp_path / "run"), progress=False)


def test_a_loss_that_is_no_number_stops_the_run(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "swin_transformer_pytorch.training.tasks.classification.module.F.cross_entropy",
        lambda logits, targets, **_: logits.sum() * math.nan,
    )
    with pytest.raises(DivergedError, match=r"epoch 1.*optimizer\.lr"):
        train(tiny(), progress=False)


def test_precision_auto_is_full_on_the_cpu(tiny: Make) -> None:
    assert choose_device(tiny(overrides={"trainer.precision": "auto"})) == ("cpu", "32-true")


def test_without_lightning_there_is_one_clear_error(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[train\]"):
        train(tiny(), progress=False)


def test_lightnings_filters_do_not_outlive_a_run(tiny: Make) -> None:
    before, level = list(warnings.filters), logging.getLogger("lightning.pytorch").level
    train(tiny(overrides={"schedule.epochs": 1}), progress=False)
    assert list(warnings.filters) == before
    assert logging.getLogger("lightning.pytorch").level == level
