"""Several labels an image, command by command: a folder is told, measured and predicted for."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.commands import predict
from swin_transformer_pytorch.commands.train import split_flags
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.models.saving import save_model
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.training import load_recipe
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

NAMES = ("bus", "car", "sun")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of noise in each part, as Roboflow has them; no image has a sun."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for part in ("train", "valid"):
        (root / part).mkdir()
        rows = ["filename, bus, car, sun"]
        for number in range(10):
            Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(root / part / f"{number}.png")
            rows.append(f"{number}.png,{int(number < 4)},{number % 2},0")
        (root / part / "_classes.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    description = ModelDescription(
        config=SwinConfig(patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4),
        num_classes=3,
        multi_label=True,
        classes=NAMES,
        preprocessing=Preprocessing.imagenet(16),
    )
    folder = tmp_path_factory.mktemp("weights")
    model = build(description)
    torch.nn.init.normal_(model.head.weight, std=2.0)
    save_model(model, folder / "several.safetensors")
    save_model(build(replace(description, multi_label=False)), folder / "one.safetensors")
    return folder / "several.safetensors"


def test_what_the_folder_holds(swin, data, tmp_path) -> None:
    outcome = swin("data", data, "--picture", tmp_path / "look.png")
    assert outcome.code == 0, outcome.err
    told = " ".join(outcome.out.split())
    for text in (
        "classification, several labels an image: _classes.csv, 3 columns of 0 and 1",
        "train 10 9 24 x 20",
        "bus 4 4 few",
        "sun 0 0 none",
        "- train: 3 images without labels of a class",
        "- val: nothing of 1 of 3 classes: sun",
    ):
        assert text in told, text
    assert (tmp_path / "look.png").is_file()
    words = shlex.split(outcome.out.splitlines()[-1])[3:]
    assert load_recipe(words[0], split_flags(words[1:])[0]).data.root == str(data)


def test_the_command_has_what_was_asked_for(swin, data, tmp_path) -> None:
    (tmp_path / "tags.csv").write_text("file,tags\n0.png,car|bus\n1.png,car\n")
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes((data / "train" / f"{number}.png").read_bytes())
    outcome = swin("data", tmp_path, "--data.labels", "tags.csv", "--data.classes", "{vehicle: [car, bus]}")
    assert (
        outcome.code == 0
        and "tags.csv, labels parted by '|'" in outcome.out
        and "all 2 2" in " ".join(outcome.out.split())
    )
    recipe = load_recipe("finetune", split_flags(shlex.split(outcome.out.splitlines()[-1])[4:])[0])
    assert (recipe.data.kind, recipe.data.labels, recipe.data.classes) == (
        "multi_label",
        "tags.csv",
        {"vehicle": ["car", "bus"]},
    )


def test_it_is_measured_and_predicted_for(swin, data, weights, tmp_path) -> None:
    outcome = swin("evaluate", "--weights", weights, "--data.root", data, "--output", tmp_path, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "report.json").read_text())
    paths = [data / "valid" / f"{number}.png" for number in range(10)]
    results = Predictor(load_model(weights), device="cpu")(paths)
    scores = np.array([[dict(zip(one.names, one.scores, strict=True))[name] for name in NAMES] for one in results])
    truth = np.array([[number < 4, number % 2, 0] for number in range(10)])
    assert report["mean_ap"] == pytest.approx(average_precision_score(truth[:, :2], scores[:, :2]))
    assert report["ap"]["sun"] is None and report["num_images"] == 10
    assert f"10 images: mAP {report['mean_ap']:.2%} over 2 of 3 classes, F1 {report['f1']:.2%}" in outcome.out
    assert (tmp_path / "class_ap.png").is_file() and "all 10 images" not in outcome.err

    predicted = swin("predict", "--weights", weights, paths[0], "--output", "-", "--device", "cpu", "--top-k", 2)
    row = json.loads(predicted.out)
    assert sorted(row) == ["labels", "names", "path", "present", "scores"]
    assert row["scores"] == pytest.approx(sorted(scores[0], reverse=True)[:2])
    assert not np.isclose(scores.sum(axis=1), 1).any()
    for one, of_all in zip(results, scores, strict=True):
        assert sorted(one.present) == sorted(name for name, score in zip(NAMES, of_all, strict=True) if score >= 0.5)
        cells = predict._cells(one, 0.0)
        assert cells[0] == (", ".join(one.present) or "none") and all(name in cells[2] for name in NAMES)


def test_without_a_part_for_validation_it_is_said(swin, data, weights, tmp_path) -> None:
    words = ("evaluate", "--weights", weights, "--data.root", data / "train", "--output", tmp_path, "--device", "cpu")
    labels = ("--data.labels", "_classes.csv")
    whole, held_out = swin(*words, *labels), swin(*words, *labels, "--data.split", "val", "--data.val_fraction", "0.5")
    assert "all 10 images of" in whole.err and "10 images: mAP" in whole.out
    assert "images of" not in held_out.err and "5 images: mAP" in held_out.out


@pytest.mark.parametrize(
    ("file", "words", "message"),
    [
        ("several", ["--data", "fashion_sample"], "--data fashion_sample is not for this model, which is for a folder"),
        ("several", ["--data.labels", "x.csv"], "give --data.root DIR, and no --data.class_order"),
        ("several", ["--data.root", "DATA", "--data.class_order", "natural"], "and no --data.class_order"),
        ("several", ["--data.root", "DATA", "--data.images", "x"], "--data.images: not for classification"),
        ("several", ["--data.root", "EMPTY"], "has no file of labels: looked for _classes.csv"),
        ("one", ["--data", "multi_label", "--data.root", "DATA"], "which is of one class an image"),
        ("one", ["--data.root", "DATA", "--data.labels", "x.csv"], "--data.labels: not for classification"),
    ],
)
def test_what_does_not_go_together_is_named(swin, data, weights, tmp_path, file, words, message) -> None:
    words = [{"DATA": data, "EMPTY": tmp_path}.get(word, word) for word in words]
    outcome = swin(
        "evaluate", "--weights", weights.with_stem(file), *words, "--device", "cpu", "--output", tmp_path / "x"
    )
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err
