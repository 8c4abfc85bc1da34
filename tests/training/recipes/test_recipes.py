"""Recipes: read strictly, wrong keys and values named, all of those in the package buildable."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_transformer_pytorch.backbone.config import find_variant
from swin_transformer_pytorch.models.config import Task, find_other_variant
from swin_transformer_pytorch.models.registry import SHIPPED
from swin_transformer_pytorch.training import RecipeError, list_recipes, load_recipe
from swin_transformer_pytorch.training.recipes import files
from swin_transformer_pytorch.training.recipes.classification import Recipe
from swin_transformer_pytorch.training.recipes.tasks import TASKS
from swin_transformer_pytorch.training.tasks.models import build_model
from swin_transformer_pytorch.weights.load import open_checkpoint

NAMES = list_recipes()


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_in_the_package_is_read_and_its_model_built(name: str) -> None:
    recipe = load_recipe(name)
    num_classes = recipe.model.num_classes or (0 if recipe.task == "pretraining" else 10)
    classes = tuple(str(index) for index in range(num_classes))
    fresh = load_recipe(name, {"model.weights": None})
    overrides = recipe.model.config_overrides
    with torch.device("meta"):
        model = build_model(fresh.model, fresh.task, classes)
        if fresh.task not in ("classification", "pretraining"):
            overrides = {**overrides, "num_classes": num_classes}
    assert model.task == recipe.task
    assert (model.classes or ()) == classes
    assert load_recipe(name).to_dict() == recipe.to_dict()
    if recipe.model.name is not None:
        find = find_variant if recipe.task == "classification" else find_other_variant
        assert model.config == find(recipe.model.name).config.replace(**overrides)


@pytest.mark.parametrize("name", [name for name in NAMES if load_recipe(name).model.weights not in (None, *SHIPPED)])
def test_every_recipe_starts_from_weights_of_the_catalogue(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(name)
    asked: list[str] = []

    def fetched(source: str, **_: Any) -> Path:
        asked.append(source)
        raise KeyboardInterrupt

    monkeypatch.setattr("swin_transformer_pytorch.weights.checkpoint.fetch", fetched)
    assert recipe.model.weights is not None
    with pytest.raises(KeyboardInterrupt):
        open_checkpoint(recipe.model.weights, name=recipe.model.name)
    assert asked
    assert asked[0].startswith(("https://", "hf:"))


def test_the_official_numbers() -> None:
    scratch = load_recipe("swin_tiny_patch4_window7_224_in1k")
    assert (scratch.optimizer.lr, scratch.optimizer.weight_decay, scratch.optimizer.clip_grad_norm) == (5e-4, 0.05, 5.0)
    assert (scratch.schedule.epochs, scratch.schedule.warmup_epochs) == (300, None)
    assert (scratch.schedule.warmup_lr, scratch.schedule.min_lr) == (5e-7, 5e-6)
    assert (scratch.data.augmentation.mixup, scratch.data.augmentation.cutmix) == (0.8, 1.0)
    assert scratch.loss.label_smoothing == 0.1
    pretraining = load_recipe("swinv2_large_patch4_window12_192_22k")
    assert (pretraining.optimizer.lr, pretraining.optimizer.weight_decay) == (1.25e-4, 0.1)
    assert (pretraining.schedule.epochs, pretraining.model.num_classes) == (90, 21841)
    large = load_recipe("swin_large_patch4_window12_384_22kto1k_finetune")
    assert (large.optimizer.lr, large.optimizer.weight_decay, large.schedule.min_lr) == (2e-5, 1e-8, 2e-7)
    assert large.data.resize_size == (384, 384)
    masked = load_recipe("simmim_finetune__swin_base__img224_window7__800ep")
    assert (masked.optimizer.lr, masked.optimizer.layer_decay) == (1.25e-3, 0.8)
    short = load_recipe("simmim_pretrain__swin_base__img192_window6__100ep")
    assert (short.optimizer.lr, short.schedule.min_lr, short.schedule.kind) == (2e-4, 1e-5, "cosine")
    long = load_recipe("simmim_pretrain__swinv2_base__img192_window12__800ep")
    assert (long.optimizer.lr, long.schedule.milestones, long.schedule.gamma) == (1e-4, (700,), 0.1)
    assert long.model.described_config("pretraining").target_window == 47
    for one in (short, long):
        assert one.data.augmentation.crop_scale == (0.67, 1.0) and one.data.interpolation == "bilinear"
        assert not one.data.augmentation.erase_prob and one.data.augmentation.auto_augment is None


def test_values_are_replaced_by_mapping_and_by_words_alike() -> None:
    words = [
        "--optimizer.lr",
        "1e-4",
        "--data.root=2024",
        "--data.image_size",
        "[20, 30]",
        "--data.augmentation.mixup=0.5",
    ]
    words += ["--model.config_overrides.drop_path_rate", "0.3", "--schedule.warmup_epochs", "0"]
    by_words = load_recipe("finetune", words)
    by_mapping = load_recipe(
        "finetune",
        {
            "optimizer.lr": 1e-4,
            "data.root": "2024",
            "data.image_size": (20, 30),
            "data.augmentation.mixup": 0.5,
            "model.config_overrides.drop_path_rate": 0.3,
            "schedule.warmup_epochs": 0,
        },
    )
    assert by_words == by_mapping
    assert by_words.data.root == "2024"
    assert by_words.data.image_size == (20, 30)
    assert by_words.model.config_overrides == {"drop_path_rate": 0.3}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--optimizer.lrr", "1"], r"unknown key optimizer\.lrr; did you mean optimizer\.lr\?"),
        (["--lr", "1"], r"unknown key lr; did you mean optimizer\.lr\?"),
        (["--epochs", "3"], r"did you mean schedule\.epochs"),
        (["--data.augmentation.mixip", "1"], r"did you mean data\.augmentation\.mixup"),
        (["--optimizer", "1"], "group of keys"),
        (["--optimizer.lr"], "no value"),
        (["optimizer.lr", "1"], "write --key value"),
        (["--optimizer.lr", "fast"], r"optimizer\.lr='fast' is not possible: use a number"),
        (["--schedule.epochs", "2.5"], r"schedule\.epochs"),
        ({"data.kind": "coco"}, r"data\.kind"),
        ({"data.kind": "fashion_sample", "data.class_order": "natural"}, r"data\.class_order='natural'"),
        (
            {"data.kind": "multi_label", "data.class_order": "natural"},
            r"null with data\.kind=.multi_label.: it is for folder",
        ),
        ({"data.labels": "tags.csv"}, r"data\.labels=.tags\.csv.*with data\.kind=.folder.: it is for multi_label"),
        (
            {"data.kind": "multi_label", "data.sampling": "balanced"},
            r"data\.sampling=.balanced.*use all: images have several",
        ),
        ({"trainer.precision": "fp8"}, r"trainer\.precision"),
        ({"optimizer.lr": -1.0}, r"optimizer\.lr=-1\.0"),
        ({"optimizer.lr": float("nan")}, r"optimizer\.lr=nan"),
        ({"schedule.epochs": 300, "schedule.warmup_epochs": 400}, r"schedule\.warmup_epochs"),
        ({"data.augmentation.auto_augment": "strong"}, "auto_augment='strong'"),
        ({"model.name": "swin_tinny_patch4_window7_224"}, "did you mean swin_tiny_patch4_window7_224"),
        ({"model.config_overrides": {"dropout": 0.1}}, "'dropout'"),
        ({"model.config": {"embed_dim": 8}}, r"model\.name=.*model\.config"),
        ({"model.in_channels": 0}, r"model\.in_channels=0"),
        ({"model.init": "fan_in"}, r"model\.init"),
        (
            {"model.name": "swin_tiny_patch4_window7_224.in1k", "model.weights": None, "model.init": "fan_in"},
            r"model\.init='fan_in'.*'official' with model\.weights",
        ),
        ({"trainer.ema_decay": 1.0}, r"trainer\.ema_decay=1\.0"),
    ],
)
def test_a_mistake_is_named_with_its_fix(overrides: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("finetune", overrides)


@pytest.mark.parametrize(
    ("key", "values", "possible"),
    [
        ("trainer.freeze", ["heads", "1.5", "[stage1]"], "backbone, all_but_head, a whole number or null"),
        ("data.classes", ["cat", "{a: cat}"], "{name: [name, ...]}, [name, ...] or null"),
        ("data.image_size", ["[1, 2, 3]"], "a whole number, [whole number, whole number], auto or null"),
        ("trainer.loggers", ["csv"], "[csv|tensorboard|wandb, ...]"),
        ("resume", ["maybe"], "true or false"),
        ("trainer.freeze", ["0"], "null for nothing, or a number of stages of at least 1"),
        ("data.val_fraction", ["0", "1"], "above 0, below 1"),
    ],
)
def test_a_value_of_no_possible_type_is_refused_with_what_is_possible(
    key: str, values: list[str], possible: str
) -> None:
    for value in values:
        with pytest.raises(RecipeError) as error:
            load_recipe("finetune", {key: value})
        assert re.fullmatch(rf"finetune: {key}=.{{1,20}} is not possible: use {re.escape(possible)}", str(error.value))


@pytest.mark.parametrize("task", TASKS)
def test_the_type_of_every_key_is_told_in_words(task: Task) -> None:
    for key in files._all_keys(TASKS[task].recipe):
        said = files._in_words(files._at({}, TASKS[task].recipe, key)[1])
        assert said and not re.search("Union|<class|typing|None|True", said), key


def test_a_recipe_that_is_not_there_is_named_with_near_ones() -> None:
    with pytest.raises(RecipeError, match="did you mean fashion_classification"):
        load_recipe("fashion_clasification")
    with pytest.raises(RecipeError, match=r"mine\.yaml does not exist"):
        load_recipe("mine.yaml")


def test_recipes_are_listed_by_task() -> None:
    by_task = [list_recipes(task) for task in TASKS]
    assert sorted(sum(by_task, [])) == NAMES
    assert ["finetune" in by_task[0], "finetune_detection" in by_task[1], "finetune_segmentation" in by_task[2]] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: pose\nmodel: {}", "task='pose' is not known; use one of classification, detection, segmentation"),
        ("model: {name: [", "not valid YAML near line 1"),
        ("- just\n- a list", "holds no recipe"),
        ("", "holds no recipe"),
        ("modle: {name: swin_tiny_patch4_window7_224}", "unknown key modle; did you mean model"),
        ("data: {root: photos}", "no model"),
        ("model: swin_tiny_patch4_window7_224", "group of keys"),
        ("model: {name: !!python/name:os.system x}", "not valid YAML"),
    ],
)
def test_a_file_with_a_mistake_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=rf"mine\.yaml.*{message}|{message}"):
        load_recipe(path)


@pytest.mark.parametrize("name", ["fashion_classification", "scenes_detection", "scenes_segmentation"])
def test_a_recipe_survives_being_written_as_yaml(name: str, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    recipe = load_recipe(name)
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(recipe.to_dict()))
    assert load_recipe(path) == recipe


def test_a_copy_with_other_values() -> None:
    recipe = load_recipe("finetune").replace({"optimizer.lr": 0.5, "data.augmentation.flip_prob": 0.0})
    assert isinstance(recipe, Recipe)
    assert (recipe.optimizer.lr, recipe.data.augmentation.flip_prob) == (0.5, 0.0)
    with pytest.raises(RecipeError, match=r"optimizer\.speed"):
        recipe.replace({"optimizer.speed": 1})


def test_reading_recipes_needs_no_torch() -> None:
    program = (
        "import sys; from swin_transformer_pytorch.training import load_recipe, list_recipes; "
        "[load_recipe(name) for name in list_recipes()]; assert not {'torch', 'lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("name", ["fashion", "scenes_detection", "scenes_segmentation"])
@pytest.mark.parametrize("weights", [None, "default"])
def test_a_model_in_the_package_is_a_name_too(name: str, weights: str | None) -> None:
    recipe = {"fashion": "finetune", "scenes_detection": "finetune_detection"}.get(name, "finetune_segmentation")
    model = load_recipe(recipe, {"data.root": "photos", "model.name": name, "model.weights": weights}).model
    assert (model.name, model.weights) == (None, name)
    with pytest.raises(RecipeError, match=rf"model\.weights='x\.pth'.*'{name}' is a model in the package"):
        load_recipe(recipe, {"data.root": "photos", "model.name": name, "model.weights": "x.pth"})
