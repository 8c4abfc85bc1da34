"""Which recipe a folder is told to be for: with none named, in a recipe's place, and under another task's recipe."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.training import load_recipe
from swin_transformer_pytorch.training.recipes.proposals import FINE_TUNING, fitting_recipes
from swin_transformer_pytorch.training.tasks.classification.prepare import prepare

TINY = {
    "model.name": None,
    "model.weights": None,
    "model.config": {"patch_size": 4, "embed_dim": 8, "depths": [1], "num_heads": [1], "window_size": 4},
}
COCO = json.dumps({"images": [], "annotations": [], "categories": []})
YAML = "names: [cat, dog]\ntrain: images/train\nval: images/val\n"
CLASSES = {f"{name}/{number}.png": "" for name in ("cat", "dog") for number in range(2)}
# Files, the tasks that the folder is for, and whether a classifier's training refuses it.
FOLDERS: dict[str, tuple[Mapping[str, str], list[str], bool]] = {
    "class folders": (CLASSES, ["classification"], False),
    "class folders in parts": (
        {f"{part}/{file}": "" for part in ("train", "val") for file in CLASSES},
        ["classification"],
        False,
    ),
    "classes, and boxes beside": ({**CLASSES, "annotations.json": COCO}, ["detection"], False),
    "coco": ({"images/1.png": "", "annotations/instances_default.json": COCO}, ["detection"], True),
    "roboflow's coco": (
        {
            f"{part}/{file}": text
            for part in ("train", "valid")
            for file, text in (("1.png", ""), ("_annotations.coco.json", COCO))
        },
        ["detection"],
        True,
    ),
    "yolo": (
        {
            f"{kind}/{part}/1.{end}": ""
            for kind, end in (("images", "png"), ("labels", "txt"))
            for part in ("train", "val")
        }
        | {"data.yaml": YAML},
        ["detection"],
        True,
    ),
    "voc": ({"JPEGImages/1.png": "", "Annotations/1.xml": "<annotation/>"}, ["detection"], True),
    "labelme": ({"1.png": "", "1.json": '{"shapes": []}'}, ["detection"], True),
    "label maps": ({"images/1.png": "", "masks/1.png": ""}, ["segmentation"], True),
    "label maps in parts": ({"train/images/1.png": "", "train/labels/1.png": ""}, ["segmentation"], True),
    "both": (
        {"train/1.png": "", "labels/train/1.png": "", "annotations/instances_train.json": COCO},
        ["detection", "segmentation"],
        True,
    ),
    "coco's segments": (
        {"images/1.png": "", "annotations/panoptic.json": COCO, "annotations/panoptic/1.png": ""},
        ["panoptic"],
        True,
    ),
    "instance maps": (
        {f"{kind}/1.png": "" for kind in ("images", "labels", "instances")},
        ["segmentation", "panoptic"],
        True,
    ),
    "labels of an unknown kind": ({"images/1.png": "", "labels/1.txt": "0 0.5 0.5 1 1"}, ["classification"], True),
}


def make(root: Path, files: Mapping[str, str]) -> None:
    for number, (name, text) in enumerate(files.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            Image.new("RGB", (16, 16), (number, 0, 0)).save(root / name)
        else:
            (root / name).write_text(text)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("form", [["--data.root", "ROOT"], ["--optimizer.lr", "1", "--data.root=ROOT"], ["ROOT"]])
def test_a_recipe_that_is_missing_is_proposed_by_what_the_folder_holds(
    folder: str, form: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, tasks, _ = FOLDERS[folder]
    root = tmp_path / "my data"
    make(root, files)
    recipes = [recipe for task, recipe in FINE_TUNING.items() if task in tasks]
    assert fitting_recipes(root) == recipes
    words = [word.replace("ROOT", str(root)) for word in form]
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    given = shlex.join(words) if form != ["ROOT"] else f"--data.root {shlex.quote(str(root))}"
    assert [f"swin train {recipe} {given}" in said for recipe in FINE_TUNING.values()] == [
        recipe in recipes for recipe in FINE_TUNING.values()
    ], said
    assert said.count("\n") == 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_classifier_is_not_trained_on_folders_of_another_task(
    folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files, tasks, refused = FOLDERS[folder]
    make(tmp_path, files)
    values = {**TINY, "data.root": str(tmp_path)}
    recipe = load_recipe("finetune", values)
    others = [FINE_TUNING[task] for task in ("detection", "segmentation", "panoptic") if task in tasks]
    if refused:
        with pytest.raises(
            DataError, match=r"swin data .*If its folders are classes, name them in --data\.classes"
        ) as error:
            prepare(recipe, "cpu")
        assert all(f"`swin train {one} --data.root {tmp_path}`" in str(error.value) for one in others)
        return
    with caplog.at_level(logging.WARNING):
        prepare(recipe, "cpu")
    assert ("its folders are the classes, though" in caplog.text) == bool(others)


@pytest.mark.parametrize("sampling", ["all", "balanced"])
@pytest.mark.parametrize("weights", [None, "balanced", [1.0, 2.0]])
def test_rare_classes_made_up_for_twice_are_told_by_name(
    sampling: str, weights: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, CLASSES)
    values = {**TINY, "data.root": str(tmp_path), "data.sampling": sampling, "loss.class_weights": weights}
    with caplog.at_level(logging.WARNING):
        prepare(load_recipe("finetune", values), "cpu")
    told = [text for text in caplog.messages if "data.sampling=balanced and loss.class_weights=balanced" in text]
    assert len(told) == (sampling == weights == "balanced")


@pytest.mark.parametrize(
    ("choice", "possible"),
    [(["cat"], False), ({"pet": ["cat", "dog"]}, False), ({"cat": ["cat"], "rest": ["*"]}, True)],
)
def test_a_choice_of_one_class_is_refused_by_its_key(choice: object, possible: bool, tmp_path: Path) -> None:
    make(tmp_path, CLASSES)
    recipe = load_recipe("finetune", {**TINY, "data.root": str(tmp_path), "data.classes": choice})
    if possible:
        assert prepare(recipe, "cpu")[0].model.classes == ("cat", "rest")
    else:
        with pytest.raises(
            DataError, match=r"data\.classes=.* makes one class.*name another, or give all the rest a name"
        ):
            prepare(recipe, "cpu")


@pytest.mark.parametrize(("size", "told"), [(5, True), ([64, 31], True), (32, False)])
def test_images_below_a_cell_of_the_last_stage_are_told(
    size: object, told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, CLASSES)
    config = {"patch_size": 4, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4, "window_size": 4}
    values = {**TINY, "model.config": config, "data.root": str(tmp_path), "data.image_size": size}
    with caplog.at_level(logging.WARNING):
        prepare(load_recipe("finetune", values), "cpu")
    assert ("smaller than a cell of the model's last stage, 32: raise data.image_size" in caplog.text) == told


def test_folders_named_as_classes_are_classes(tmp_path: Path) -> None:
    make(tmp_path, {f"{name}/{number}.png": "" for name in ("images", "masks") for number in range(2)})
    values = {**TINY, "data.root": str(tmp_path)}
    module, _ = prepare(load_recipe("finetune", {**values, "data.classes": ["images", "masks"]}), "cpu")
    assert module.model.classes == ("images", "masks")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optimizer.lr", "1"], "which recipe? It comes first: swin train finetune --optimizer.lr 1"),
        (["--print-config"], "which recipe?"),
        (["--resume"], "which run? Give its folder: swin train --resume"),
        (["--resume", "--trainer.device", "cpu"], "which run?"),
    ],
)
def test_a_command_without_a_recipe_says_so(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["best.ckpt", "model.safetensors", "swin.pth"])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("flags", [[], ["--resume"]])
def test_a_checkpoint_in_a_recipes_place_is_told(
    name: str, there: bool, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if there:
        (tmp_path / name).write_bytes(b"\x80\x02")
    assert main(["train", *flags, str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert f"{name} is a checkpoint and no recipe" in said
    assert f"--model.weights {tmp_path / name}" in said
    assert (f"swin train --resume {tmp_path}`" in said) == there
