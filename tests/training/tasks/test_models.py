"""From a recipe's model to a model."""

import os
from typing import Any

import pytest
import torch

from swin_transformer_pytorch.training import RecipeError, load_recipe
from swin_transformer_pytorch.training.tasks.models import build_model
from swin_transformer_pytorch.weights.files import CheckpointError, save_checkpoint
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

CLASSES = ("cat", "dog")


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="the memory's size is not known")
@pytest.mark.parametrize("name", ["demo_classification", "scenes_detection", "scenes_segmentation"])
def test_a_model_larger_than_the_memory_is_refused_before_it_is_built(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(name)
    build_model(recipe.model, recipe.task, CLASSES)
    monkeypatch.setattr(os, "sysconf", lambda _: 500)
    with pytest.raises(RecipeError, match=r"has [\d,]+ parameters, 0\.0 GiB, and this machine 0\.0 GiB of memory"):
        build_model(recipe.model, recipe.task, CLASSES)


@pytest.mark.parametrize(
    ("name", "theirs", "ours", "said"),
    [
        ("demo_classification", Preprocessing.imagenet(28), Preprocessing.imagenet(28), None),
        (
            "demo_classification",
            Preprocessing.imagenet(28),
            Preprocessing.imagenet(224),
            "image_size: (28, 28) -> (224, 224), resize_size: 32 -> 256",
        ),
        (
            "scenes_detection",
            DensePreprocessing(scale=None, size_divisor=8),
            DensePreprocessing.coco(),
            "scale: None -> (1333, 800), size_divisor: 8 -> 32",
        ),
        ("scenes_segmentation", DensePreprocessing(scale=None), DensePreprocessing(scale=None), None),
    ],
)
def test_what_differs_from_the_preprocessing_of_the_weights_is_said_by_name(
    name: str, theirs: Any, ours: Any, said: str | None, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = load_recipe(name)
    model = build_model(recipe.model, recipe.task, CLASSES, prepare=lambda known, own: theirs)
    save_checkpoint(tmp_path / "m.safetensors", model.state_dict(), model.metadata())
    caplog.clear()
    words = {"model.weights": str(tmp_path / "m.safetensors"), "model.config": None, "model.init": "official"}
    again = load_recipe(name, words)
    seen: list[Any] = []
    build_model(again.model, again.task, CLASSES, prepare=lambda *both: seen.extend(both) or ours)
    assert seen == [theirs, theirs]
    differs = [message for message in caplog.messages if message.startswith("preprocessing")]
    assert differs == ([f"preprocessing differs from that of the weights: {said}"] if said else [])


@pytest.mark.parametrize("named", [True, False])
def test_of_a_trainings_checkpoint_the_raw_weights_are_taken_where_the_recipe_says_so(
    named: bool, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = {"embed_dim": 8, "num_heads": [1, 2, 4, 8], "depths": [1, 1, 1, 1]}
    given: dict[str, Any] = {"model.config": None, "model.init": "official", "model.weights": str(tmp_path / "m.pth")}
    given |= {"model.name": "swin_tiny_patch4_window7_224", "model.config_overrides": tiny} if named else {}
    if not named:
        given["model.config"] = load_recipe("demo_classification").model.config
    fresh = {**given, "model.weights": None}
    recipe = load_recipe("demo_classification", fresh)
    raw, mean = (build_model(recipe.model, recipe.task, CLASSES).state_dict() for _ in range(2))
    torch.save({"model": raw, "model_ema": mean}, tmp_path / "m.pth")
    for which, expected in (("raw", raw), ("averaged", mean), (None, raw)):
        again = load_recipe("demo_classification", {**given, "model.which": which})
        state = build_model(again.model, again.task, CLASSES).state_dict()
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    with pytest.raises(RecipeError, match=r"model\.which='raw'"):
        load_recipe("demo_classification", {**fresh, "model.which": "raw"})


@pytest.mark.parametrize(
    ("recipe", "name", "weights"),
    [
        ("finetune", "swin_tiny_patch4_window7_224", "fashion"),
        ("finetune_segmentation", "upernet_swin_tiny_patch4_window7_512x512", "scenes_segmentation"),
    ],
)
def test_weights_of_another_architecture_get_their_remedy_first_and_no_list_of_keys(
    recipe: str, name: str, weights: str
) -> None:
    small = {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
    small |= {"decode_dim": 16, "auxiliary_dim": 16} if "segmentation" in recipe else {}
    values = {"model.name": name, "model.weights": weights, "model.config_overrides": small, "model.in_channels": 3}
    if "segmentation" in recipe:
        del values["model.in_channels"]
    loaded = load_recipe(recipe, values)
    with pytest.raises(CheckpointError) as error:
        build_model(loaded.model, loaded.task, CLASSES)
    first, *rest = str(error.value).splitlines()
    assert first == (
        f"model.weights={weights!r}: to train the model that these weights are of, add --model.name null "
        f"(it is {name} now)"
    )
    assert len(rest) < 6
    assert rest[-1].startswith("Of the model's ")
