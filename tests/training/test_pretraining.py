"""Masked pre-training from end to end: a run on a folder, its resume to the bit, and fine-tuning from it."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.test_distributed import run

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.images.files import find_images
from swin_transformer_pytorch.data.images.masking import MaskRule
from swin_transformer_pytorch.data.shards.pack import Files, pack
from swin_transformer_pytorch.models.masked import MaskedSwin
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.training import RecipeError, load_recipe, train
from swin_transformer_pytorch.training.engine.callbacks import Checkpoints, read_history
from swin_transformer_pytorch.training.engine.stopping import StopSignals
from swin_transformer_pytorch.training.engine.strategy import compile_model
from swin_transformer_pytorch.training.recipes.pretraining import PretrainingRecipe
from swin_transformer_pytorch.training.tasks.pretraining.module import PretrainingTraining
from swin_transformer_pytorch.training.tasks.pretraining.prepare import prepare
from swin_transformer_pytorch.whole import is_intact

Make = Callable[..., PretrainingRecipe]
BACKBONE = {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """26 pictures of stripes in folders that are no classes."""
    random = np.random.default_rng(0)
    for index in range(26):
        folder = tmp_path / "photos" / ("a" if index % 2 else "b/c")
        folder.mkdir(parents=True, exist_ok=True)
        stripes = np.arange(40)[:, None] // random.integers(2, 9) % 2 * 160 + random.integers(0, 60, (40, 48))
        pixels = np.repeat(stripes[:, :, None], 3, axis=2).astype(np.uint8)
        Image.fromarray(pixels if index % 3 else pixels.transpose(1, 0, 2)).save(folder / f"{index}.png")
    return tmp_path / "photos"


@pytest.fixture
def tiny(photos: Path, tmp_path: Path) -> Make:
    def make(name: str = "run", **overrides: Any) -> PretrainingRecipe:
        values = {
            "model.config": {"backbone": BACKBONE, "mask_unit": 8},
            "data.root": str(photos),
            "data.image_size": 32,
            "data.batch_size": 8,
            "data.num_workers": 0,
            "data.val_fraction": 0.2,
            "optimizer.lr": 3e-3,
            "schedule.epochs": 3,
            "trainer.device": "cpu",
            "trainer.checkpoint_every_steps": 1,
            "output": str(tmp_path / name),
        }
        recipe = load_recipe("pretrain", values | {key.replace("__", "."): value for key, value in overrides.items()})
        assert isinstance(recipe, PretrainingRecipe)
        return recipe

    return make


def test_a_run_on_a_folder_without_classes_leaves_everything_behind(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(tiny())
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert result.metrics == {"val_loss": result.history[-1]["val_loss"]}
    assert result.best_score == min(line["val_loss"] for line in result.history)
    said = capsys.readouterr().err
    assert "21 to learn from, 5 to validate on" in said
    assert "10 of 16 squares of 8 x 8 pixels" in said and " classes " not in said
    model = load_model(result.weights)
    assert isinstance(model, MaskedSwin) and model.preprocessing is not None
    assert model.preprocessing.interpolation == "bilinear" and model.preprocessing.image_size == (32, 32)
    card = (result.output / "README.md").read_text(encoding="utf-8")
    assert "| hidden | 60%, in squares of 8 pixels |" in card and "swin train finetune" in card
    assert "Predictor" not in card and "classes" not in card
    with Image.open(result.output / "validation.png") as picture:
        assert picture.width > 3 * 200, "image, what was seen, reconstruction; large enough to see"
    assert is_intact(result.last)
    assert (result.output / "curves.png").exists()


def test_all_of_it_with_v2s_target_and_steps(tiny: Make) -> None:
    backbone = {**BACKBONE, "version": 2}
    config = {"backbone": backbone, "mask_unit": 8, "target_window": 47}
    steps = {"schedule__kind": "multistep", "schedule__milestones": [1], "schedule__warmup_epochs": 0}
    result = train(tiny(model__config=config, **steps), progress=False)
    assert [line["lr"] for line in result.history] == pytest.approx([3e-4, 3e-4, 3e-4])
    assert "normalised in windows of 47 x 47" in (result.output / "README.md").read_text(encoding="utf-8")


def test_a_tiny_model_learns_what_is_hidden_by_heart(tiny: Make) -> None:
    torch.manual_seed(0)
    backbone = {**BACKBONE, "embed_dim": 32, "window_size": 8, "drop_path_rate": 0.0}
    module, data = prepare(tiny(model__config={"backbone": backbone, "mask_unit": 8}), "cpu")
    model, rule = module.model.train(), data.rule
    image = torch.kron(torch.randn(1, 3, 4, 4), torch.ones(1, 1, 8, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    mask, losses = rule.fixed(0).unsqueeze(0), []
    for _ in range(300):
        loss = model.losses(image, mask)["loss_masked"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert losses[-1] < 0.25 * losses[0]


def batches(recipe: PretrainingRecipe, epoch: int) -> list[Any]:
    loader = prepare(recipe, "cpu")[1].training_loader(0, 1)
    loader.epoch = epoch
    return list(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_masks_are_a_function_of_seed_epoch_and_image(workers: int, tiny: Make) -> None:
    first, again = (batches(tiny(data__num_workers=count), 0) for count in (workers, 0))
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    masks = torch.cat([mask for _, mask in first])
    assert masks.shape == (16, 8, 8) and (masks.sum((1, 2)) == 40).all(), "10 squares of 4 patches in each"
    assert len({mask.numpy().tobytes() for mask in masks}) == 16, "each image has its own"
    _, data = prepare(tiny(), "cpu")
    dataset = data.training_loader(0, 1).dataset
    of_epochs = []
    for epoch in range(4):
        dataset.set_epoch(epoch)
        of_epochs.append(dataset[5][1].numpy().tobytes())
    assert len({*of_epochs}) == 4, "another one in each epoch"
    dataset.set_epoch(2)
    assert dataset[5][1].numpy().tobytes() == of_epochs[2]
    _, other_seed = prepare(tiny(trainer__seed=1), "cpu")
    assert other_seed.training_loader(0, 1).dataset[5][1].numpy().tobytes() != of_epochs[0]


def test_validation_masks_stay_whatever_the_seed(tiny: Make) -> None:
    found = []
    for seed in (0, 1):
        _, data = prepare(tiny(trainer__seed=seed), "cpu")
        (_, masks), problems = next(iter(data.val_dataloader()))
        found.append(masks)
        assert not problems
    assert torch.equal(*found)
    assert torch.equal(found[0][3], MaskRule((4, 4), (2, 2), 0.6).fixed(3))


class Stopped(Exception):
    """Stands for whatever ends a run."""


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_that_is_stopped_anywhere_resumes_to_the_bit(
    steps: int, tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops = {"model__config": {"backbone": {**BACKBONE, "drop_path_rate": 0.3}, "mask_unit": 8}}
    whole = train(tiny("whole", schedule__epochs=2, **drops), progress=False)
    step, done = PretrainingTraining.training_step, 0

    def dying(self: Any, *args: Any) -> Any:
        nonlocal done
        if done == steps:
            raise Stopped
        done += 1
        return step(self, *args)

    recipe = tiny("parts", schedule__epochs=2, **drops)
    with monkeypatch.context() as patched:
        patched.setattr(PretrainingTraining, "training_step", dying)
        with pytest.raises(Stopped):
            train(recipe, progress=False)
    parts = train(recipe.replace({"resume": True}), progress=False)
    one, other = (torch.load(result.last, weights_only=True)["state_dict"] for result in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert [{**line, "seconds": 0} for line in whole.history] == [{**line, "seconds": 0} for line in parts.history]


def test_less_is_better(tmp_path: Path) -> None:
    """The best checkpoint and patience follow the metric's direction, and a loss that was no number is no best."""
    saved: list[str] = []

    class FakeTrainer:
        should_stop, is_global_zero, world_size, current_epoch, check_val_every_n_epoch = False, True, 1, 0, 1
        global_step = 1

        def save_checkpoint(self, path: Path, weights_only: bool = False) -> None:
            saved.append(path.name)

    class FakeModule:
        main_metric = "val_loss"
        is_better = PretrainingTraining.is_better
        metrics: dict[str, float]

    trainer, module = FakeTrainer(), FakeModule()
    signals = StopSignals()
    checkpoints = Checkpoints(tmp_path, signals, every_steps=10, every_minutes=None, patience=2)
    for loss, best in ((float("nan"), True), (0.9, True), (0.5, True), (0.7, False), (0.6, False)):
        saved.clear()
        module.metrics = {"val_loss": loss}
        assert not trainer.should_stop
        checkpoints.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
        assert ("best.ckpt" in saved) == best, loss
    assert checkpoints.best == 0.5 and trainer.should_stop


def test_fine_tuning_starts_from_a_run_in_one_option(
    tiny: Make, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = train(tiny(), progress=False).weights
    labelled = tmp_path / "labelled"
    for name, path in zip("ab", sorted(photos.iterdir()), strict=True):
        (labelled / name).mkdir(parents=True)
        for image in path.rglob("*.png"):
            image.rename(labelled / name / image.name)
    values = {
        "data.root": str(labelled),
        "data.num_workers": 0,
        "model.weights": str(weights),
        "schedule.epochs": 1,
        "trainer.device": "cpu",
    }
    named = {"model.config_overrides": {**BACKBONE, "window_size": 5}, "output": str(tmp_path / "named")}
    named |= {"data.image_size": 40}
    itself = {"model.name": None, "model.config_overrides": {}, "output": str(tmp_path / "itself")}
    pretrained = load_model(weights)
    for more, size in ((named, (40, 40)), (itself, (32, 32))):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            result = train(load_recipe("finetune", values | more), progress=False)
        assert "mask_token and decoder are of masked pre-training (SimMIM) alone" in caplog.text
        assert "head.weight, head.bias: the file has no head" in caplog.text
        model = load_model(result.weights)
        assert model.task == "classification" and model.classes == ("a", "b")
        assert model.preprocessing is not None
        assert (model.preprocessing.interpolation, model.preprocessing.image_size) == ("bicubic", size)
        # One step away from where it started.
        weight = model.layers[1].blocks[0].mlp.fc1.weight
        assert (weight - pretrained.layers[1].blocks[0].mlp.fc1.weight).abs().max() < 1e-3
    assert "from window 4x4 to 5x5" not in caplog.text
    history = (tmp_path / "named" / "history.jsonl").read_text()
    assert json.loads(history)["val_top1"] >= 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data__image_size": 30}, "data.image_size or model.config_overrides: images of 30 x 30 pixels are not whole"),
        ({"model__num_classes": 10}, "model.num_classes=10 is not possible: use null"),
        ({"trainer__freeze": "backbone"}, "trainer.freeze='backbone' is not possible"),
        ({"data__augmentation.mixup": 0.8}, "data.augmentation.mixup=0.8 is not possible: use 0"),
        ({"schedule__kind": "multistep"}, r"schedule.milestones=\(\) is not possible: use one epoch at least"),
        ({"schedule__milestones": [2]}, r"schedule.milestones=\(2,\) is not possible: use none with"),
        ({"schedule__kind": "multistep", "schedule__milestones": [3]}, "epochs before schedule.epochs=3"),
        ({"data__root": None}, "add --data.root FOLDER"),
        ({"model__name": "swin_tiny_patch4_window7_224", "model__config": None}, "there is no model named|is for"),
    ],
)
def test_mistakes_are_named_before_anything_is_done(overrides: dict[str, Any], message: str, tiny: Make) -> None:
    with pytest.raises(RecipeError, match=message):
        prepare(tiny(**overrides), "cpu")


def test_damaged_images_are_replaced_counted_and_too_many_are_an_error(tiny: Make, photos: Path) -> None:
    damaged = sorted(photos.rglob("*.png"))[:3]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:60])
    result = train(tiny(schedule__epochs=2), progress=False)
    assert sum(int(line.split()[0]) for line in result.unusable) == 3
    for path in sorted(photos.rglob("*.png"))[3:9]:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="could not be used, more than 20%"):
        train(tiny("second", schedule__epochs=2), progress=False)


def test_shards_without_labels_are_as_good_as_a_folder(tiny: Make, photos: Path, tmp_path: Path) -> None:
    pack({"train": Files(paths=find_images(photos))}, photos, tmp_path / "shards")
    recipe = tiny(data__root=str(tmp_path / "shards"), schedule__epochs=2)
    module, data = prepare(recipe, "cpu")
    assert module.recipe.data.kind == "shards" and (data.num_images, data.num_val_images) == (21, 5)
    result = train(recipe, progress=False)
    assert 0 < result.metrics["val_loss"] < 2
    resumed = train(recipe.replace({"resume": True}), progress=False)
    assert resumed.metrics == result.metrics


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does(
    strategy: str, tiny: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    # Stochastic depth draws other numbers on each device.
    same = {"model__config": {"backbone": {**BACKBONE, "drop_path_rate": 0.0}, "mask_unit": 8}}
    single = train(tiny("single", **same), progress=False)
    both = tiny("both", **same, trainer__devices=2, trainer__strategy=strategy, data__batch_size=4)
    code, output, errors = run(both, tmp_path / "program", environment)  # type: ignore[arg-type]
    assert code == 0 and output.count("loss") == 1, errors
    lines = read_history(tmp_path / "both" / "history.jsonl")
    for one, other in zip(lines, single.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-6)
        assert one["val_loss"] == pytest.approx(other["val_loss"], abs=1e-6)


def test_compilers_get_the_blocks_which_its_losses_call(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    compile_model(prepare(tiny(), "cpu")[0].model)
    assert compiled == ["SwinBlock", "SwinBlock"]
