"""Whole runs on segments: a person's own folders take one line, with their own classes of things and stuff."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.test_dense_run import BACKBONE, CONFIGS, TINY

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.scenes.files import write_scenes
from swin_transformer_pytorch.models.mask2former import Mask2Former
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.results import PanopticSegmentation
from swin_transformer_pytorch.training import RecipeError, load_recipe, train
from swin_transformer_pytorch.training.recipes.tasks import AnyRecipe
from swin_transformer_pytorch.training.tasks.models import build_model
from swin_transformer_pytorch.training.tasks.panoptic.data import open_panoptic
from swin_transformer_pytorch.training.tasks.panoptic.prepare import prepare

CONFIG: dict[str, Any] = {**CONFIGS["panoptic"], "backbone": BACKBONE}
CHOICE = {"clothing": ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Shirt"], "ground": ["ground"]}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of scenes that has learnt a step."""
    values = {**TINY, "model.config": CONFIG, "model.weights": None, "schedule.steps": 1, "schedule.warmup_steps": 0}
    values |= {"trainer.validate_every_steps": None, "output": str(tmp_path_factory.mktemp("first"))}
    return train(load_recipe("scenes_panoptic", values), progress=False).weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in COCO's panoptic format; an image of training has no segments, one is a crowd alone."""
    root = tmp_path_factory.mktemp("scenes")
    for split, count in (("train", 5), ("val", 2)):
        files = write_scenes(open_scenes("scenes_sample", "val", num_scenes=count, image_size=(64, 80)), root, split)
        if split == "train":
            document = json.loads(files.panoptic.read_text())
            document["annotations"][0]["segments_info"] = []
            Image.new("RGB", (80, 64)).save(files.segments / document["annotations"][0]["file_name"])
            for segment in document["annotations"][1]["segments_info"]:
                segment["iscrowd"] = 1
            files.panoptic.write_text(json.dumps(document))
    return root


def own(root: Path, output: Path, **values: Any) -> AnyRecipe:
    """`swin train finetune_mask2former_panoptic --data.root ROOT`, and what makes it take a second."""
    small = {
        "model.name": None,
        "model.config_overrides": {},
        "data.root": str(root),
        "data.batch_size": 2,
        "data.num_workers": 0,
        "schedule.epochs": 1,
        "trainer.device": "cpu",
        "output": str(output),
    }
    return load_recipe("finetune_mask2former_panoptic", {**small, **values})


def test_ones_own_segments_take_one_line_and_new_classes_the_layer_of_classes(
    weights: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = own(folder, tmp_path / "run", **{"model.weights": str(weights), "data.classes": CHOICE})
    result = train(recipe, progress=False)
    fresh = [line for line in "\n".join(caplog.messages).splitlines() if line.strip().startswith("fresh")]
    assert [line.split()[1] for line in fresh] == ["2"] and fresh[0].count("class_embed") == 2
    model = load_model(result.weights)
    assert isinstance(model, Mask2Former)
    assert model.classes == ("clothing", "ground") and model.config.thing_classes == (0,)
    assert model.preprocessing is not None and model.preprocessing.scale is None, "as the weights had it"
    assert {"val_pq", "val_sq", "val_rq"} <= result.metrics.keys()
    assert (result.output / "validation.png").stat().st_size > 5000
    found = Predictor(model)(folder / "val" / "000000.png")
    assert isinstance(found, PanopticSegmentation) and found.names == model.classes
    assert all(segment.is_thing == (segment.label == 0) for segment in found.segments)


def test_label_and_instance_maps_are_learnt_too(weights: Path, tmp_path: Path) -> None:
    scenes = open_scenes("scenes_sample", "val", num_scenes=4, image_size=(64, 80))
    for name in ("images", "labels", "instances"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for index in range(4):
        scene = scenes[index]
        assert scene.semantic is not None
        numbers = np.zeros((64, 80), dtype=np.uint8)
        for number, mask in enumerate(scene.masks, start=1):
            numbers[mask != 0] = number
        scene.picture.save(tmp_path / "data" / "images" / f"{index}.png")
        Image.fromarray(scene.semantic).save(tmp_path / "data" / "labels" / f"{index}.png")
        Image.fromarray(numbers).save(tmp_path / "data" / "instances" / f"{index}.png")
    (tmp_path / "data" / "classes.txt").write_text("\n".join(scenes.semantic_classes))
    result = train(own(tmp_path / "data", tmp_path / "run", **{"model.weights": str(weights)}), progress=False)
    model = load_model(result.weights)
    assert isinstance(model, Mask2Former)
    assert model.classes == scenes.semantic_classes
    things = {scenes.semantic_classes[label] for label in model.config.thing_classes}
    assert things and "ground" not in things


def test_a_detectors_backbone_starts_a_model_of_another_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = {**TINY, "data.num_val_scenes": 1, "output": str(tmp_path)}
    module, _ = prepare(load_recipe("scenes_panoptic", values), "cpu")  # type: ignore[arg-type]
    said = "scenes_detection is mask_rcnn: its backbone starts this mask2former, whose heads are left as initialised"
    assert said in caplog.messages
    detector = load_model("scenes_detection").state_dict()
    model = module.model.state_dict()
    shared = [name for name in model if name.startswith("backbone.")]
    assert len(shared) > 100 and all(torch.equal(model[name], detector[name].float()) for name in shared)


@pytest.mark.parametrize("freeze", ["backbone", "all_but_head", 1])
def test_frozen_parts_stay_as_they_are(freeze: Any, weights: Path, folder: Path, tmp_path: Path) -> None:
    before = load_model(weights).state_dict()
    recipe = own(folder, tmp_path, **{"model.weights": str(weights), "trainer.freeze": freeze, "optimizer.lr": 0.1})
    after = load_model(train(recipe, progress=False).weights).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    learns = {
        "backbone": lambda name: not name.startswith("backbone."),
        "all_but_head": lambda name: "class_embed" in name,
        1: lambda name: not name.startswith(("backbone.patch_embed", "backbone.layers.0")),
    }[freeze]
    assert moved and all(learns(name) for name in moved)
    assert any("class_embed" in name for name in moved)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"data\.kind='folder' needs data\.root: add --data\.root FOLDER"),
        ({"train_images": "a"}, r"of train's places images are given; a part has three"),
        ({"train_images": "a", "train_labels": "b"}, r"of train's places images and labels are given"),
        ({"train_images": "a", "train_labels": "b", "train_segments": "c"}, "images and labels and segments are given"),
    ],
)
def test_a_part_has_three_places(values: dict[str, str], message: str) -> None:
    overrides = {f"data.{name}": value for name, value in values.items()}
    recipe: Any = load_recipe("finetune_mask2former_panoptic", overrides)
    with pytest.raises(RecipeError, match=message):
        recipe.data.source()


def test_a_model_that_answers_otherwise_is_refused() -> None:
    with pytest.raises(RecipeError, match="is for detection; this recipe is for panoptic"):
        load_recipe("finetune_mask2former_panoptic", {"model.name": "mask2former_swin_tiny_patch4_window7_instance"})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"things": [0]}, r"has things=\[0\], and which classes are things is what the data says: leave it out"),
        ({"answers": "semantic"}, r"answers are 'semantic', for segmentation, and this recipe is for panoptic"),
        ({"answers": "instance"}, r"answers are 'instance', for detection, and this recipe is for panoptic"),
    ],
)
def test_overrides_do_not_say_what_the_data_or_the_task_says(overrides: dict[str, Any], message: str) -> None:
    def built(**model: Any) -> None:
        recipe = load_recipe("finetune_mask2former_panoptic", {**model, "model.config_overrides": overrides})
        build_model(recipe.model, recipe.task, ("a", "b"), things=(0,))

    for model in ({"model.name": "scenes_panoptic"}, {"model.name": None, "model.config": CONFIG}):
        with pytest.raises(RecipeError, match=message):
            built(**model)


def test_parts_that_differ_in_what_is_a_thing_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    file = tmp_path / "data" / "annotations" / "panoptic_val.json"
    content = json.loads(file.read_text())
    next(one for one in content["categories"] if one["name"] == "Coat")["isthing"] = 0
    file.write_text(json.dumps(content))
    recipe: Any = own(tmp_path / "data", tmp_path / "run")
    with pytest.raises(DataError, match=r"panoptic_val\.json differ in isthing: Coat \(thing, then stuff\)"):
        open_panoptic(recipe.data)


def test_a_json_says_itself_which_classes_are_things(folder: Path, tmp_path: Path) -> None:
    recipe: Any = own(folder, tmp_path, **{"data.things": ["Coat"]})
    with pytest.raises(RecipeError, match=r"data\.things=\['Coat'\] is for label .*panoptic_train\.json says it"):
        open_panoptic(recipe.data)
