"""A run is measured at its end on the part "test" of its data, as `swin evaluate --data.split test` measures it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.scenes.files import write_scenes
from swin_transformer_pytorch.training import load_recipe, train

BACKBONE = {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "finetune": {},
    "finetune_detection": {"fpn_dim": 8, "fc_dim": 8, "rpn_samples": 8, "roi_samples": 8},
    "finetune_segmentation": {"decode_dim": 8, "auxiliary_dim": 8, "auxiliary_index": 0},
}
MAIN = {"finetune": "top1", "finetune_detection": "box_ap", "finetune_segmentation": "miou"}


def class_folders(root: Path, *, test: tuple[str, ...]) -> Path:
    for part, classes in (("train", "abc"), ("val", "abc"), ("test", test)):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for index in range(6):
                grey = 90 * "abc".index(name) + index
                Image.new("RGB", (24, 20), (grey, grey, 90)).save(root / part / name / f"{index}.png")
    return root


def scene_folders(root: Path) -> Path:
    parts = {
        split: open_scenes("scenes_sample", split, num_scenes=6, image_size=(64, 64)) for split in ("train", "val")
    }
    write_scenes(parts["train"], root, "train")
    write_scenes(parts["val"], root, "val")
    for place in [path for path in root.rglob("*") if path.is_dir() and path.name == "val"]:
        shutil.copytree(place, place.with_name("test"))
    shutil.copy(root / "annotations" / "instances_val.json", root / "annotations" / "instances_test.json")
    return root


def recipe_for(name: str, root: Path, output: Path, **changes: Any) -> Any:
    config = BACKBONE if name == "finetune" else {**CONFIGS[name], "backbone": BACKBONE}
    values = {"model.name": None, "model.weights": None, "model.config_overrides": {}, "model.config": config}
    values |= {"data.root": str(root), "data.num_workers": 0, "data.batch_size": 4, "schedule.epochs": 1}
    return load_recipe(name, values | {"trainer.device": "cpu", "output": str(output)} | changes)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_part_test_is_measured_at_the_end(name: str, swin: Any, tmp_path: Path) -> None:
    root = tmp_path / "data"
    # Class "b" has no test image: the others must not take its place.
    class_folders(root, test=("a", "c")) if name == "finetune" else scene_folders(root)
    plain = {"auto_augment": None, "crop": "none", "erase_prob": 0.0}
    learning = {"schedule.epochs": 20, "optimizer.lr": 5e-3, "model.init": "fan_in", "optimizer.layer_decay": 1.0}
    learning |= {f"data.augmentation.{key}": value for key, value in plain.items()}
    recipe = recipe_for(name, root, tmp_path / "run", **(learning if name == "finetune" else {}))
    result = train(recipe, progress=False)
    assert {f"val_{MAIN[name]}", f"test_{MAIN[name]}"} <= result.metrics.keys()
    assert all("test_loss" not in line for line in result.history)
    card = (result.output / "README.md").read_text(encoding="utf-8")
    assert f"| test_{MAIN[name]} |" in card and "to be measured on at the end" in card
    words = ("--weights", result.weights, "--data.root", root, "--data.split", "test", "--device", "cpu")
    outcome = swin("evaluate", *words, "--output", tmp_path / "report")
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    measured = {"finetune": "top1", "finetune_segmentation": "mIoU"}
    found = report[measured[name]] if name in measured else report["boxes"]["AP"]
    assert result.metrics[f"test_{MAIN[name]}"] == pytest.approx(found or 0.0)
    assert name != "finetune" or found > 0.8


def test_without_such_a_part_there_is_no_such_measure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = class_folders(tmp_path / "data", test=())
    result = train(recipe_for("finetune", root, tmp_path / "run"), progress=False)
    assert not [key for key in result.metrics if key.startswith("test_")]
    assert "'test'" not in caplog.text


def test_a_part_that_cannot_be_used_is_said_before_the_first_step(tmp_path: Path, caplog: Any) -> None:
    root = scene_folders(tmp_path / "data")
    (root / "annotations" / "instances_test.json").write_text("{}")
    result = train(recipe_for("finetune_detection", root, tmp_path / "run"), progress=False)
    assert "the part 'test' is left out: " in caplog.text and "instances_test.json" in caplog.text
    assert not [key for key in result.metrics if key.startswith("test_")]
