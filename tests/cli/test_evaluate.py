"""`swin evaluate`: the figures that it prints are those that it saves, and they are right."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from swin_transformer_pytorch import Predictor, load_model
from swin_transformer_pytorch.data.classification.fashion import CLASSES, FashionSample
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.weights.files import save_checkpoint


@pytest.fixture
def labelled(tmp_path):
    """A folder with a folder a class, named as the model's classes are, and what it should be measured at."""
    sample = FashionSample("test")
    folder = tmp_path / "labelled"
    chosen = [index for label in (1, 8) for index in np.flatnonzero(sample.labels == label)[:3]]
    for index in chosen:
        home = folder / CLASSES[sample.labels[index]]
        home.mkdir(parents=True, exist_ok=True)
        sample[index][0].save(home / f"{index}.png")
    return folder


def test_measures_a_folder(swin, checkpoint, labelled, tmp_path) -> None:
    target = tmp_path / "report"
    outcome = swin("evaluate", "--weights", checkpoint, "--data.root", labelled, "--output", target, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    predictor = Predictor(checkpoint, device="cpu")
    paths = sorted(labelled.rglob("*.png"))
    right = [path.parent.name == predictor(path).names[0] for path in paths]
    top5 = [path.parent.name in predictor(path).names for path in paths]
    assert f"6 images: top-1 {np.mean(right):.2%}, top-5 {np.mean(top5):.2%}" in outcome.out
    reports = list(target.glob("*.json"))
    assert len(reports) == 1
    saved = json.loads(reports[0].read_text())
    assert saved["top1"] == pytest.approx(np.mean(right))
    assert saved["num_images"] == 6
    with Image.open(target / "confusion_matrix.png") as picture:
        assert min(picture.size) > 100
    assert str(target / "confusion_matrix.png") in outcome.err


def test_measures_the_images_in_the_package(swin, checkpoint, tmp_path) -> None:
    words = ("--weights", checkpoint, "--data", "fashion_sample", "--output", tmp_path, "--batch-size", 250)
    outcome = swin("evaluate", *words, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert "1,000 images" in outcome.out
    assert all(name in outcome.out for name in CLASSES)


def test_says_when_all_of_a_folder_is_measured(swin, checkpoint, labelled, tmp_path) -> None:
    words = ("evaluate", "--weights", checkpoint, "--data.root", labelled, "--output", tmp_path / "report")
    assert "--data.split val" in swin(*words).err
    held_out = swin(*words, "--data.split", "val", "--data.val_fraction", 0.34)
    assert "2 images" in held_out.out
    assert "--data.split" not in held_out.err


def test_measures_the_part_for_tests(swin, checkpoint, labelled, tmp_path) -> None:
    labelled.rename(tmp_path / "test")
    words = ("evaluate", "--weights", checkpoint, "--data.root", tmp_path, "--output", tmp_path / "report")
    outcome = swin(*words, "--data.split", "test")
    assert outcome.code == 0 and "6 images: top-1" in outcome.out
    missing = swin(*words[:-4], "--data.root", tmp_path / "test", "--data.split", "test")
    assert missing.code == 2 and "has no folder 'test' with class folders" in missing.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--data", "fashion_sample"], "--weights"),
        (["--weights", "CHECKPOINT"], "--data.root"),
        (["--weights", "CHECKPOINT", "--data", "fashion_mnist"], "--data.root"),
        (["--weights", "CHECKPOINT", "--data.root", "nowhere"], "nowhere"),
        (["--weights", "CHECKPOINT", "--data", "imagenet"], "choose from"),
    ],
)
def test_what_cannot_be_measured_is_one_error(swin, checkpoint, words, hint) -> None:
    outcome = swin("evaluate", *(str(checkpoint) if word == "CHECKPOINT" else word for word in words))
    assert outcome.code == 2
    assert outcome.err.startswith("swin: error: ")
    assert hint in outcome.err


def test_folders_that_the_model_does_not_know_are_an_error(swin, checkpoint, labelled) -> None:
    (labelled / "Trouser").rename(labelled / "Trousers")
    outcome = swin("evaluate", "--weights", checkpoint, "--data.root", labelled)
    assert outcome.code == 2
    assert "Trousers" in outcome.err


def test_an_image_that_cannot_be_read_is_reported_and_skipped(swin, checkpoint, labelled, tmp_path) -> None:
    broken = next(labelled.rglob("*.png")).with_name("broken.png")
    broken.write_bytes(b"no image")
    outcome = swin("evaluate", "--weights", checkpoint, "--data.root", labelled, "--output", tmp_path / "r")
    assert outcome.code == 1
    assert outcome.err.count(str(broken)) == 1
    assert "1 of 7 images could not be used" in outcome.err
    assert "6 images: top-1" in outcome.out


def test_images_that_are_nearly_black_by_their_white_level_are_told(swin, checkpoint, tmp_path, caplog) -> None:
    for label in (0, 1):
        (folder := tmp_path / CLASSES[label].replace("/", "_")).mkdir()
        values = np.random.default_rng(label).integers(0, 4096, (28, 28)).astype(np.uint16)
        Image.fromarray(values).save(folder / "1.png")
    (tmp_path / CLASSES[0].replace("/", "_")).rename(tmp_path / CLASSES[2])
    outcome = swin("evaluate", "--weights", checkpoint, "--data.root", tmp_path, "--output", tmp_path / "report")
    assert outcome.code == 0
    (message,) = [message for message in caplog.messages if "16 bits" in message]
    assert "values of at most 4095" in message and "data.white_level 4095" in message


def test_a_limit_of_pixels(swin, checkpoint, labelled, tmp_path) -> None:
    words = ("evaluate", "--weights", checkpoint, "--data.root", labelled, "--output", tmp_path / "r")
    assert swin(*words, "--data.max_pixels", 28 * 28).code == 0
    outcome = swin(*words, "--data.max_pixels", 28 * 28 - 1)
    assert outcome.code == 2
    assert "28 x 28 pixels, more than 783" in outcome.err


def test_too_many_images_that_cannot_be_read_are_an_error(swin, checkpoint, labelled, tmp_path) -> None:
    for path in sorted(labelled.rglob("*.png"))[:2]:
        path.write_bytes(b"no image")
    outcome = swin("evaluate", "--weights", checkpoint, "--data.root", labelled, "--output", tmp_path / "r")
    assert outcome.code == 2
    assert "2 of 6 images could not be used, more than 20%" in outcome.err


@pytest.fixture(scope="session")
def numbered(checkpoint, tmp_path_factory):
    """A head of 12 numbers, as one trained elsewhere, and folders 0 to 11 of images that it takes for their number."""
    folder = tmp_path_factory.mktemp("numbered")
    model, sample = load_model(checkpoint), FashionSample("test")
    with torch.no_grad():
        transform = create_transform(model)
        images = torch.stack([transform(sample[index][0]) for index in range(400)])
        features = model.forward_features(images).mean(dim=(1, 2))
        model.reset_classifier(12)
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
        model.head.bias.copy_(-model.head.weight @ features.mean(0))
        best, found = model(images).topk(2, dim=1)
        clear = (best[:, 0] - best[:, 1]).argsort(descending=True)  # batches of another size round otherwise
    for number in range(12):
        (folder / "data" / f"{number}").mkdir(parents=True)
        for index in [index for index in clear.tolist() if found[index, 0] == number][:3]:
            sample[index][0].save(folder / "data" / f"{number}" / f"{index}.png")
    save_checkpoint(folder / "nameless.safetensors", model.state_dict(), model.metadata())
    named = SwinClassifier(
        model.config, num_classes=12, classes=tuple("abcdefghijkl"), preprocessing=model.preprocessing
    )
    named.load_state_dict(model.state_dict())
    save_checkpoint(folder / "named.safetensors", named.state_dict(), named.metadata())
    (folder / "order.txt").write_text("".join(f"{number}\n" for number in range(12)))
    return folder


@pytest.mark.parametrize(
    ("weights", "order", "right", "said"),
    [
        ("nameless", None, False, "0, 1, 10, 11 and 8 more"),
        ("nameless", "sorted", False, ""),
        ("nameless", "natural", True, ""),
        ("nameless", "order.txt", True, ""),
        ("named", None, True, "0 is 'a'"),
        ("named", "natural", True, ""),
        ("named", "sorted", False, ""),
    ],
)
def test_the_order_of_numbered_folders(swin, numbered, tmp_path, caplog, weights, order, right, said) -> None:
    given = [] if order is None else ["--data.class_order", numbered / order if order == "order.txt" else order]
    words = ("evaluate", "--weights", numbered / f"{weights}.safetensors", "--data.root", numbered / "data")
    outcome = swin(*words, *given, "--output", tmp_path, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["top1"] == 1 if right else saved["top1"] < 0.4
    told = outcome.err + caplog.text
    assert said in told and told.count("guess") == (weights == "nameless" and order is None)


@pytest.mark.parametrize("data", [["--data", "fashion_sample"], ["--data", "fashion_mnist", "--data.root", "x"]])
def test_an_order_of_classes_is_for_folders(swin, checkpoint, data) -> None:
    outcome = swin("evaluate", "--weights", checkpoint, *data, "--data.class_order", "natural")
    assert outcome.code == 2
    assert "--data.class_order is for a classifier's folder" in outcome.err
