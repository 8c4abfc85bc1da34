"""Recipes of detection and segmentation: the official numbers, and mistakes that are named."""

from typing import Any

import pytest

from swin_transformer_pytorch.models.mask2former_config import Mask2FormerConfig
from swin_transformer_pytorch.training import RecipeError, list_recipes, load_recipe
from swin_transformer_pytorch.training.recipes.detection import DetectionRecipe
from swin_transformer_pytorch.training.recipes.segmentation import SegmentationRecipe


@pytest.mark.parametrize(
    ("name", "epochs", "milestones", "rate"),
    [
        ("mask_rcnn_swin_tiny_patch4_window7_1x", 12, (8, 11), 0.1),
        ("mask_rcnn_swin_small_patch4_window7_3x", 36, (27, 33), 0.2),
        ("cascade_mask_rcnn_swin_tiny_patch4_window7_1x", 12, (8, 11), 0.0),
        ("cascade_mask_rcnn_swin_base_patch4_window7_3x", 36, (27, 33), 0.3),
    ],
)
def test_the_official_numbers_of_detection(name: str, epochs: int, milestones: tuple[int, ...], rate: float) -> None:
    recipe = load_recipe(name)
    assert isinstance(recipe, DetectionRecipe)
    config = recipe.model.described_config("detection")
    assert config is not None
    assert config.backbone.drop_path_rate == rate
    schedule = recipe.schedule
    assert (schedule.kind, schedule.epochs, schedule.milestones, schedule.gamma) == (
        "multistep",
        epochs,
        milestones,
        0.1,
    )
    assert (schedule.warmup_steps, schedule.warmup_ratio) == (None, 1e-3)
    optimizer = recipe.optimizer
    assert (optimizer.lr, optimizer.weight_decay, optimizer.betas) == (1e-4, 0.05, (0.9, 0.999))
    assert (optimizer.scale_lr, optimizer.clip_grad_norm) == (16, None)
    assert recipe.data.scale == (1333, 800)
    assert recipe.data.augmentation.scales[0] == 480


def test_the_official_numbers_of_segmentation() -> None:
    recipe = load_recipe("upernet_swin_base_patch4_window7_512x512_160k")
    assert isinstance(recipe, SegmentationRecipe)
    config = recipe.model.described_config("segmentation")
    assert config is not None
    assert config.backbone.drop_path_rate == 0.3
    schedule = recipe.schedule
    assert (schedule.kind, schedule.steps, schedule.power, schedule.min_lr) == ("poly", 160_000, 1.0, 0.0)
    assert (schedule.warmup_steps, schedule.warmup_ratio) == (None, 1e-6)
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.optimizer.scale_lr) == (6e-5, 0.01, 16)
    assert (recipe.data.scale, recipe.data.augmentation.crop_size) == ((2048, 512), (512, 512))


@pytest.mark.parametrize(
    "name", [name for name in list_recipes() if name.startswith("mask2former") and "panoptic" not in name]
)
def test_the_official_numbers_of_mask2former(name: str) -> None:
    recipe = load_recipe(name)
    optimizer, schedule = recipe.optimizer, recipe.schedule
    assert (optimizer.lr, optimizer.weight_decay, optimizer.backbone_lr) == (1e-4, 0.05, 0.1)
    assert (optimizer.scale_lr, optimizer.clip_grad_norm, optimizer.betas) == (16, 0.01, (0.9, 0.999))
    assert (schedule.warmup_steps, schedule.epochs, schedule.min_lr) == (0, None, 0)
    config = recipe.model.described_config(recipe.task)
    assert isinstance(config, Mask2FormerConfig) and config.backbone.drop_path_rate == 0.3
    assert config.num_queries == (200 if "large" in name and recipe.task != "segmentation" else 100)
    size, data = (
        name.split("_")[2],
        next(end for end in ("coco", "ade20k", "cityscapes", "vistas") if name.endswith(end)),
    )
    assert recipe.model.weights is not None and recipe.model.weights.startswith(f"swin_{size}_patch4_window")
    assert recipe.model.weights.endswith(".in22k" if "in22k" in name else ".in1k")
    if data == "coco":
        times = 2 if size == "large" else 1
        assert (schedule.kind, schedule.steps, schedule.gamma) == ("multistep", 368750 * times, 0.1)
        assert schedule.milestones == ((655556, 710184) if times == 2 else (327778, 355092))
    else:
        steps = {"ade20k": 160000, "cityscapes": 90000, "vistas": 300000}[data]
        assert (schedule.kind, schedule.steps, schedule.power) == ("poly", steps, 0.9)


@pytest.mark.parametrize(
    ("name", "short", "long", "most", "crop"),
    [
        ("tiny_patch4_window7_semantic_ade20k", 512, 2048, 2048, (512, 512)),
        ("base_patch4_window12_semantic_in22k_ade20k", 640, 2560, 2560, (640, 640)),
        ("small_patch4_window7_semantic_cityscapes", 1024, 2048, 4096, (512, 1024)),
        ("large_patch4_window12_semantic_in22k_mapillary_vistas", 2048, 2048, 8192, (1024, 1024)),
        ("large_patch4_window12_instance_in22k_ade20k", 640, 2560, 2560, (640, 640)),
        ("tiny_patch4_window7_instance_cityscapes", 1024, 2048, 4096, (512, 1024)),
    ],
)
def test_the_official_sizes_of_mask2former(name: str, short: int, long: int, most: int, crop: tuple[int, int]) -> None:
    recipe = load_recipe(f"mask2former_swin_{name}")
    changes = recipe.data.augmentation
    assert recipe.data.scale == (long, short) and changes.photometric and changes.max_long == most
    assert changes.flip_prob == 0.5
    if isinstance(recipe, SegmentationRecipe):
        assert (changes.scale, changes.ratio_range, changes.ratio_step) == ((most, short), (0.5, 2.0), 0.1)
        assert (changes.crop_size, changes.cat_max_ratio) == (crop, 1)
        assert changes.pad_value == (None if "cityscapes" in name else 128)
    else:
        assert changes.scales == tuple(int(tenths * 0.1 * short) for tenths in range(5, 21))
        assert (changes.fixed_size, changes.jitter_range, changes.crop_prob) == (crop, None, 0)


def test_cocos_objects_are_learnt_with_large_scale_jitter() -> None:
    recipe = load_recipe("mask2former_swin_tiny_patch4_window7_instance_coco")
    assert isinstance(recipe, DetectionRecipe)
    changes = recipe.data.augmentation
    assert (changes.jitter_range, changes.fixed_size, changes.crop_prob) == ((0.1, 2.0), (1024, 1024), 0)
    assert (changes.flip_prob, changes.photometric, recipe.data.scale) == (0.5, False, (1333, 800))
    words = ["--data.augmentation.jitter_range", "[0.5, 2]", "--data.augmentation.fixed_size", "[640, 640]"]
    own = load_recipe("finetune_mask2former_instance", words).data.augmentation
    assert (own.jitter_range, own.fixed_size) == ((0.5, 2.0), (640, 640))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "finetune_detection",
            {"schedule.epochs": 20, "schedule.steps": 100},
            r"schedule\.epochs=20 and schedule\.steps=100",
        ),
        ("finetune_detection", {"schedule.epochs": None}, r"one of them says how long"),
        ("finetune_detection", {"trainer.validate_every_steps": 10}, r"validate_every_steps=10.*use null"),
        (
            "scenes_detection",
            {"schedule.steps": 4000, "trainer.validate_every_steps": 300},
            r"a divisor of schedule\.steps=4000, such as 250",
        ),
        ("scenes_detection", {"trainer.validate_every_epochs": 2}, r"validate_every_epochs=2"),
        ("finetune_detection", {"schedule.milestones": [5]}, r"schedule\.milestones=\(5,\)"),
        ("finetune_detection", {"schedule.kind": "multistep", "schedule.milestones": [9, 5]}, "rising"),
        ("finetune_detection", {"loss.label_smoothing": 0.1}, r"unknown key loss"),
        ("finetune_detection", {"data.augmentation.mixup": 0.1}, r"unknown key data\.augmentation\.mixup"),
        ("finetune_detection", {"data.augmentation.flip_prob": 2}, r"flip_prob=2"),
        ("finetune_detection", {"data.scale": [480, 800]}, r"data\.scale=\(480, 800\)"),
        (
            "finetune_detection",
            {"model.name": "mask_rcnn_swin_tinny_patch4_window7"},
            "did you mean mask_rcnn_swin_tiny",
        ),
        ("finetune_detection", {"model.name": "upernet_swin_tiny_patch4_window7_512x512"}, "is for segmentation"),
        ("finetune_segmentation", {"model.config_overrides": {"fpn_dim": 8}}, "'fpn_dim'"),
        ("finetune_segmentation", {"data.batch_size": 1}, r"data\.batch_size=1.*batch norm"),
        ("finetune_segmentation", {"data.kind": "yolo"}, r"data\.kind"),
        ("finetune_segmentation", {"model.init": "fan_in"}, r"model\.init"),
        ("scenes_segmentation", {"model.config": None}, "no model"),
    ],
)
def test_a_mistake_is_named_with_its_fix(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(name, overrides)


def test_lengths_are_changed_from_the_command_line() -> None:
    recipe = load_recipe("finetune_detection", ["--schedule.steps", "100", "--schedule.epochs", "null"])
    assert isinstance(recipe, DetectionRecipe)
    assert (recipe.schedule.steps, recipe.schedule.epochs) == (100, None)
    words = ["--data.augmentation.scales", "[320, 400]", "--data.scale", "null", "--data.box_masks", "true"]
    words += ["--data.allow_outside", "true", "--data.root", "x"]
    recipe = load_recipe("finetune_detection", words)
    assert isinstance(recipe, DetectionRecipe)
    assert recipe.data.augmentation.scales == (320, 400)
    assert (recipe.data.scale, recipe.data.box_masks) == (None, True)
    assert (recipe.data.source().box_masks, recipe.data.source().allow_outside) == (True, True)


@pytest.mark.parametrize(
    "name",
    [
        "finetune",
        "finetune_detection",
        "finetune_segmentation",
        "finetune_mask2former_instance",
        "finetune_mask2former_semantic",
    ],
)
def test_a_limit_of_pixels_reaches_the_data(name: str) -> None:
    assert load_recipe(name, ["--data.root", "x"]).data.source().max_pixels is None
    assert load_recipe(name, ["--data.root", "x", "--data.max_pixels", "300000000"]).data.source().max_pixels == 3e8
    with pytest.raises(RecipeError, match=r"data\.max_pixels=0 .*from 1 to"):
        load_recipe(name, ["--data.max_pixels", "0"])
