"""Whether a run may be resumed, where its checkpoint's recipe is of an earlier version of the package."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from swin_transformer_pytorch.training import RecipeError, load_recipe
from swin_transformer_pytorch.training.engine.checkpoint_files import read_training_checkpoint
from swin_transformer_pytorch.training.engine.resume import check_resumable, with_choices_of
from swin_transformer_pytorch.training.recipes.tasks import AnyRecipe

RECIPES = ("fashion_classification", "scenes_detection", "upernet_swin_tiny_patch4_window7_512x512_160k")


def described(recipe: AnyRecipe) -> Any:
    """What is looked at of a model."""
    return cast(Any, SimpleNamespace(classes=("cat", "dog"), config=recipe.model.described_config(recipe.task)))


def save(path: Path, recipe: AnyRecipe, tree: dict[str, Any]) -> Path:
    swin = {"classes": ["cat", "dog"], "config": described(recipe).config.to_dict()}
    torch.save({"swin": swin, "recipe": tree, "loops": {}}, path)
    return path


def check(path: Path, recipe: AnyRecipe, model: Any) -> None:
    check_resumable(read_training_checkpoint(path), path, recipe, model)


@pytest.mark.parametrize("name", RECIPES)
def test_a_key_that_the_run_did_not_know_had_its_tasks_default(name: str, tmp_path: Path) -> None:
    silent = ("optimizer.betas", "optimizer.eps", "trainer.devices", "data.augmentation.flip_prob", "model.num_classes")
    recipe = load_recipe(name)
    tree = recipe.to_dict()
    for key in silent:
        *groups, last = key.split(".")
        group = tree
        for part in groups:
            group = group[part]
        del group[last]
    check(save(tmp_path / "last.ckpt", recipe, tree), recipe, described(recipe))
    changed = recipe.replace({"optimizer.eps": 1e-6})
    path = tmp_path / "last.ckpt"
    with pytest.raises(RecipeError, match=r"optimizer\.eps was 1e-08 .* is 1e-06 now") as error:
        check(path, changed, described(changed))
    null = "--model.name null " * (recipe.model.name is not None)  # the weights' own architecture, whatever the name
    assert str(error.value).endswith(f"start a new run in another --output with {null}--model.weights {path}")


@pytest.mark.parametrize(
    ("name", "key", "default", "other"),
    [
        ("swin_tiny_patch4_window7_224_in1k", "optimizer.clip_grad_norm", "5.0", 1.0),
        ("mask_rcnn_swin_tiny_patch4_window7_1x", "optimizer.clip_grad_norm", "None", 1.0),
        ("mask_rcnn_swin_tiny_patch4_window7_1x", "optimizer.lr", "0.0001", 0.5),
        ("upernet_swin_tiny_patch4_window7_512x512_160k", "optimizer.weight_decay", "0.01", 0.5),
        ("upernet_swin_tiny_patch4_window7_512x512_160k", "schedule.warmup_ratio", "1e-06", 0.5),
    ],
)
def test_a_default_in_which_tasks_differ_is_the_tasks_own(
    name: str, key: str, default: str, other: Any, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    tree = recipe.to_dict()
    group, _, last = key.partition(".")
    del tree[group][last]
    path = save(tmp_path / "last.ckpt", recipe, tree)
    check(path, recipe, described(recipe))
    with pytest.raises(RecipeError, match=rf"{key} was {default} .* is {other} now"):
        check(path, recipe.replace({key: other}), described(recipe))


@pytest.mark.parametrize("name", ["scenes_detection", "upernet_swin_tiny_patch4_window7_512x512_160k"])
def test_a_dense_run_of_before_images_could_have_other_channels_is_resumed(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name).replace({"model.in_channels": "auto"})
    tree = recipe.to_dict()
    del tree["model"]["in_channels"]
    path = save(tmp_path / "last.ckpt", recipe, tree)
    now = with_choices_of(recipe, tree).replace({"model.in_channels": 3})  # as the data said
    check(path, now, described(now))
    other = now.replace({"model.in_channels": 4})
    with pytest.raises(RecipeError, match="another architecture"):
        check(path, other, described(other))


def test_a_key_is_compared_by_its_name_of_today(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = load_recipe("fashion_classification")
    tree = recipe.to_dict()
    tree["data"]["augmentation"]["hflip"] = tree["data"]["augmentation"].pop("flip_prob")
    path = save(tmp_path / "last.ckpt", recipe, tree)
    check(path, recipe, described(recipe))
    assert "recipe key data.augmentation.hflip is now called data.augmentation.flip_prob" in caplog.messages
    changed = recipe.replace({"data.augmentation.flip_prob": 0.0})
    with pytest.raises(RecipeError, match=r"data\.augmentation\.flip_prob was 0\.5 .* is 0\.0 now"):
        check(path, changed, described(changed))


@pytest.mark.parametrize(
    ("name", "key", "chosen", "other"),
    [
        ("finetune", "schedule.warmup_epochs", 2.0, 0.5),
        ("finetune", "data.image_size", (28, 28), 32),
        ("finetune_detection", "schedule.warmup_steps", 7, 8),
        ("finetune_detection", "data.scale", None, (96, 64)),
        ("finetune_detection", "data.augmentation.scales", (), (48, 64)),
        ("finetune_detection", "data.augmentation.max_long", 800, 1333),
        ("finetune_segmentation", "schedule.warmup_steps", 0, 3),
        ("finetune_segmentation", "data.augmentation.scale", (1024, 256), None),
        ("finetune_segmentation", "data.augmentation.crop_size", (64, 64), (32, 32)),
    ],
)
def test_what_a_recipe_leaves_open_stays_as_the_run_had_chosen_it(name: str, key: str, chosen: Any, other: Any) -> None:
    recipe = load_recipe(name)
    held = recipe.replace({key: chosen}).to_dict()
    assert with_choices_of(recipe, held) == recipe.replace({key: chosen})
    given = recipe.replace({key: other})
    assert with_choices_of(given, held) == given
    assert with_choices_of(recipe, {}) == recipe
