"""`swin demo` with tiny models in place of the shipped ones and of the one that it trains."""

from __future__ import annotations

import io
import json

import pytest
import yaml
from PIL import Image
from rich.console import Console

from swin_transformer_pytorch import demo, extras
from swin_transformer_pytorch.data.classification.fashion import CLASSES
from swin_transformer_pytorch.demo import classification, scenes
from swin_transformer_pytorch.models import registry
from swin_transformer_pytorch.training import load_recipe


@pytest.fixture
def tiny(monkeypatch, tmp_path, checkpoint, dense_checkpoints) -> None:
    """A tiny recipe, tiny models as the shipped ones, and few scenes."""
    recipe = load_recipe(classification.RECIPE).to_dict()
    recipe["model"]["config"] = {"patch_size": 7, "embed_dim": 8, "depths": [1], "num_heads": [1], "window_size": 4}
    recipe["data"]["batch_size"] = 200
    recipe["trainer"]["device"] = "cpu"
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(classification, "RECIPE", str(path))
    monkeypatch.setitem(registry.SHIPPED, "fashion", checkpoint)
    for task, shipped in dense_checkpoints.items():
        monkeypatch.setitem(registry.SHIPPED, f"scenes_{task}", shipped)
    monkeypatch.setattr(scenes, "NUM_SCENES", 12)


@pytest.mark.usefixtures("tiny", "unchecked_shapes")
def test_writes_what_it_says_and_says_where(swin, tmp_path) -> None:
    output = tmp_path / "new" / "demo-output"
    outcome = swin("demo", "--output", output, "--seconds", 1)
    assert outcome.code == 0, outcome.err
    for picture in (
        "predictions.png",
        "confusion_matrix.png",
        "training_curve.png",
        "detections.png",
        "segmentation.png",
        "panoptic.png",
    ):
        assert str(output / picture) in outcome.out
        with Image.open(output / picture) as image:
            assert min(image.size) > 200
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == list(range(1000))
    right = sum(line["correct"] for line in lines)
    assert all(line["correct"] == (line["names"][0] == line["target"]) for line in lines)
    assert f"top-1 of the shipped model {right / 1000:.1%}" in outcome.out
    assert len(list((output / "images").glob("*.png"))) == len(CLASSES)
    assert "model's class for 1,000 of 1,000 images" in outcome.out
    assert (output / "fashion.onnx").is_file()

    found = [json.loads(line) for line in (output / "detections.jsonl").read_text().splitlines()]
    assert [line["scene"] for line in found] == list(range(12))
    assert all(len(line["boxes"]) == len(line["masks"]) == len(line["names"]) for line in found)
    for words in ("box AP", "mask AP", "mIoU", "PQ"):
        assert words in outcome.out
    for task in ("detection", "segmentation", "panoptic"):
        again = swin("predict", "--weights", f"scenes_{task}", output / "scenes", "--output", "-")
        assert again.code == 0, again.err
        assert len(again.out.splitlines()) == len(list((output / "scenes").glob("*.png"))) == 5

    tried = swin("predict", "--weights", output / "trained_here.safetensors", output / "images", "--output", "-")
    assert tried.code == 0, tried.err
    assert len(tried.out.splitlines()) == len(CLASSES)
    # Again over what is there.
    assert swin("demo", "--output", output, "--seconds", 0.01).code == 0


@pytest.mark.usefixtures("tiny")
def test_epochs_are_as_many_as_fit(monkeypatch, tmp_path) -> None:
    class Trained(Exception):
        """The second run was asked for."""

    asked = []

    def train(recipe, *, progress):
        asked.append(recipe.schedule.epochs)
        if len(asked) == 2:
            raise Trained
        return type("Run", (), {"history": ({"seconds": 2.0},)})

    monkeypatch.setattr(classification, "train", train)
    with pytest.raises(Trained):
        classification.train_for(11, tmp_path / "weights.safetensors", console=Console(file=io.StringIO()))
    assert asked == [1, 5]


@pytest.mark.usefixtures("tiny")
def test_a_slow_machine_trains_one_epoch_once(monkeypatch, tmp_path) -> None:
    asked = []
    saved = tmp_path / "saved.safetensors"
    saved.write_bytes(b"weights")

    def train(recipe, *, progress):
        asked.append(recipe.schedule.epochs)
        return type("Run", (), {"history": ({"seconds": 20.0},), "weights": saved})

    monkeypatch.setattr(classification, "train", train)
    classification.train_for(11, tmp_path / "weights.safetensors", console=Console(file=io.StringIO()))
    assert asked == [1]
    assert (tmp_path / "weights.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("package", ["lightning", "matplotlib", "faster_coco_eval"])
def test_a_missing_extra_is_told_before_any_work(swin, monkeypatch, tmp_path, package) -> None:
    def require(module, *, extra):
        if module == package:
            raise extras.MissingExtraError(f"this needs {package!r}: pip install 'swin-transformer-pytorch[{extra}]'")

    monkeypatch.setattr(demo, "require", require)
    outcome = swin("demo", "--output", tmp_path / "out")
    assert outcome.code == 2
    assert "pip install 'swin-transformer-pytorch[train]'" in outcome.err
    assert not (tmp_path / "out").exists()
