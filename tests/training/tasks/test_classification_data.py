"""How a recipe's data becomes tensors."""

from pathlib import Path

import pytest
from PIL import Image

from swin_transformer_pytorch.data.classification.fashion import CLASSES
from swin_transformer_pytorch.data.classification.folder import imagenet_synsets
from swin_transformer_pytorch.training.recipes.classification import DataRecipe
from swin_transformer_pytorch.training.tasks.classification.data import (
    choose_preprocessing,
    open_splits,
)
from swin_transformer_pytorch.weights.imagenet_classes import class_names
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

IMAGENET = Preprocessing.imagenet(224)


def test_the_embedded_images() -> None:
    splits = open_splits(DataRecipe(kind="fashion_sample"))
    assert (len(splits.train), len(splits.val)) == (2000, 1000)
    assert splits.classes == CLASSES


def test_the_models_own_preprocessing_is_kept_where_the_recipe_is_silent() -> None:
    assert choose_preprocessing(DataRecipe(), 3, IMAGENET) == IMAGENET
    assert choose_preprocessing(DataRecipe(image_size=224), 3, IMAGENET) == IMAGENET


def test_another_size_takes_the_official_resize_rule_and_the_models_colours() -> None:
    own = Preprocessing(image_size=(224, 224), resize_size=232, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    chosen = choose_preprocessing(DataRecipe(image_size=(96, 64)), 3, own)
    assert (chosen.image_size, chosen.resize_size, chosen.mean) == ((96, 64), 109, own.mean)


def test_a_squeeze_without_a_crop() -> None:
    chosen = choose_preprocessing(DataRecipe(image_size=384, resize_size=(384, 384)), 3, IMAGENET)
    assert (chosen.image_size, chosen.resize_size) == ((384, 384), (384, 384))


def test_a_new_model_gets_imagenets_numbers_or_their_grey() -> None:
    assert choose_preprocessing(DataRecipe(image_size=64), 3, None).mean == IMAGENET.mean
    assert choose_preprocessing(DataRecipe(image_size=64), 1, None).channels == 1
    assert choose_preprocessing(DataRecipe(), 1, IMAGENET).channels == 1


def test_fashion_images_are_neither_resized_nor_coloured() -> None:
    chosen = choose_preprocessing(DataRecipe(kind="fashion_sample"), 1, None)
    assert (chosen.image_size, chosen.resize_size, chosen.channels) == ((28, 28), (28, 28), 1)


def test_imagenets_folders_get_the_names_that_people_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Synsets:
        classes = imagenet_synsets()

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def part(self, _: str) -> "Synsets":
            return self

        def __len__(self) -> int:
            return 1

    monkeypatch.setattr("swin_transformer_pytorch.data.classification.folder.ImageFolder", Synsets)
    assert open_splits(DataRecipe(root="imagenet")).classes == class_names("imagenet1k")


@pytest.mark.parametrize(
    ("order", "classes", "told"),
    [(None, ["1", "10", "2"], 1), ("sorted", ["1", "10", "2"], 0), ("natural", ["1", "2", "10"], 0)],
)
def test_an_order_of_classes_that_is_a_guess_is_said_once(
    order: str | None, classes: list[str], told: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in classes:
        for index in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", (4, 4)).save(tmp_path / name / f"{index}.png")
    assert open_splits(DataRecipe(root=str(tmp_path), class_order=order)).classes == tuple(classes)
    assert caplog.text.count("is a guess") == told
