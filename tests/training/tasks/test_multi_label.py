"""Several labels an image: the loss and the validation against torch's own, and a whole run on a person's folder."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import nn
from torch.nn import functional as F

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.models.registry import create_model, load_model
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.training import RecipeError, load_recipe, train
from swin_transformer_pytorch.training.engine.seeding import Stream, generator
from swin_transformer_pytorch.training.tasks.classification.mixup import mix
from swin_transformer_pytorch.training.tasks.classification.multi_label import MultiLabelTraining
from swin_transformer_pytorch.training.tasks.classification.prepare import class_weights, prepare

LOGITS = torch.randn(41, 5, generator=torch.Generator().manual_seed(0))
LABELS = (torch.rand(41, 5, generator=torch.Generator().manual_seed(1)) < torch.tensor([0.3, 0.5, 0.1, 0.8, 0])).byte()


class Flat(nn.Module):
    """Logits that are the images themselves."""

    num_classes = 5

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).to(self.dtype)


class OneProcess(MultiLabelTraining):
    """One of several processes, with what the others have counted."""

    others: tuple[Any, ...] = ()

    def gathered(self, items: list[Any]) -> list[Any]:
        self.sent = list(items)
        return [*items, *self.others]


def validated(places: range) -> OneProcess:
    training = OneProcess(Flat(), load_recipe("demo_classification"), batch_size=4)  # type: ignore[arg-type]
    training.begin_validation()
    for start in range(places.start, places.stop, 4):
        some = slice(start, min(start + 4, places.stop))
        training.validation_step((LOGITS[some, :, None, None], LABELS[some], []), 0)
    return training


@pytest.mark.parametrize("held_by_the_first", [41, 30])
def test_the_figures_are_those_of_all_images_together(held_by_the_first: int) -> None:
    training = validated(range(held_by_the_first))
    if held_by_the_first < 41:
        other = validated(range(held_by_the_first, 41))
        other.end_validation()
        training.others = tuple(other.sent)
    metrics = training.end_validation()
    expected = average_precision_score(LABELS[:, :4].numpy(), LOGITS[:, :4].numpy(), average="macro")
    assert metrics["val_map"] == pytest.approx(expected)
    assert (metrics["val_map_classes"], metrics["val_num_classes"]) == (4, 5)
    loss = F.binary_cross_entropy_with_logits(LOGITS, LABELS.float()).item()
    assert metrics["val_loss"] == pytest.approx(loss, rel=1e-6)
    training.begin_validation()
    training.others = ()
    with pytest.raises(DataError, match="none of the validation images"):
        training.end_validation()


@pytest.mark.parametrize("weights", [None, (1.0, 4.0, 0.5, 0.0, 2.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_is_that_of_mixed_and_smoothed_targets_in_float32(
    weights: tuple[float, ...] | None, smoothing: float, dtype: torch.dtype
) -> None:
    recipe = load_recipe("demo_classification", {"data.augmentation.mixup": 0.8, "loss.label_smoothing": smoothing})
    training = MultiLabelTraining(Flat(dtype), recipe, batch_size=4, class_weights=weights)  # type: ignore[arg-type]
    images = LOGITS[:8, :, None, None]
    (loss,) = training.losses((images, LABELS[:8]), 0).values()
    random = generator(Stream.MIX, recipe.trainer.seed, 0, 0, 0)
    mixed, targets = mix(images, LABELS[:8].float(), recipe.data.augmentation, random)
    smooth = targets * (1 - smoothing) + smoothing / 2
    log, log_not = (F.logsigmoid(sign * mixed.flatten(1).to(dtype).float()) for sign in (1, -1))
    counts = targets * torch.tensor(weights or 1.0) + 1 - targets
    torch.testing.assert_close(loss, -(counts * (smooth * log + (1 - smooth) * log_not)).mean(), rtol=1e-5, atol=0)
    assert loss.dtype == torch.float32


def test_balanced_weights_are_how_many_more_images_lack_the_class() -> None:
    assert class_weights("balanced", {"a": 5, "b": 10, "c": 1}, 20) == (3.0, 1.0, 19.0)
    assert class_weights((1.0, 2.0), {"a": 5, "b": 1}, 20) == (1.0, 2.0)
    with pytest.raises(RecipeError, match="no training image of b"):
        class_weights("balanced", {"a": 5, "b": 0}, 20)
    with pytest.raises(RecipeError, match="all training images have a"):
        class_weights("balanced", {"a": 5, "b": 1}, 5)


COLOURS = {"blue": (30, 40, 200), "green": (30, 190, 50), "red": (210, 40, 30)}


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Pictures of three fields; of each colour that a picture has it has the label."""
    random, labels = np.random.default_rng(0), {}
    (tmp_path / "patches" / "images").mkdir(parents=True)
    for number in range(32):
        chosen = [name for bit, name in enumerate(COLOURS) if number >> bit & 1]
        pixels = random.normal(128, 20, size=(32, 48, 3))
        for place, name in zip(random.permutation(3), chosen, strict=False):
            pixels[:, 16 * place : 16 * place + 16] = COLOURS[name]
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
            tmp_path / "patches" / "images" / f"{number}.png"
        )
        labels[f"{number}.png"] = chosen
    (tmp_path / "patches" / "labels.json").write_text(json.dumps(labels))
    return tmp_path / "patches"


def recipe_for(root: Path, **overrides: Any) -> Any:
    values = {
        "data.root": str(root),
        "data.image_size": 32,
        "data.batch_size": 8,
        "data.num_workers": 0,
        "model.name": None,
        "model.weights": None,
        "model.config": {"patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        "model.config_overrides": {},
        "data.augmentation.crop": "none",
        "data.augmentation.auto_augment": None,
        "optimizer.lr": 1e-2,
        "optimizer.layer_decay": 1.0,
        "schedule.epochs": 12,
        "trainer.device": "cpu",
        "output": str(root.parent / "run"),
    }
    return load_recipe("finetune", values | {name.replace("__", "."): value for name, value in overrides.items()})


def test_a_run_learns_and_its_file_says_what_it_is(patches: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    result = train(recipe_for(patches, loss__class_weights="balanced", data__augmentation__mixup=0.2), progress=False)
    assert "labels.json names the images' labels, any number each: data.kind is multi_label" in caplog.text
    assert set(result.metrics) == {"val_loss", "val_map", "val_f1", "val_map_classes", "val_num_classes"}
    assert result.best_score > 0.9 and result.best_score == max(line["val_map"] for line in result.history)
    for file in ("curves.png", "validation.png"):
        assert (result.output / file).is_file()
    assert "kind: multi_label" in (result.output / "recipe.yaml").read_text()
    model = load_model(result.weights)
    assert model.multi_label and model.classes == tuple(sorted(COLOURS))
    found = Predictor(model, device="cpu", top_k=2)(patches / "images" / "7.png")
    with torch.no_grad():
        image = Predictor(model, device="cpu").prepare(patches / "images" / "7.png")
        expected = model(image[None])[0].sigmoid()
    best = expected.argsort(descending=True)[:2]
    assert found.labels == tuple(best.tolist()) and found.scores == pytest.approx(expected[best].tolist())
    # A finished run goes on as what it is, and other heads of the model stay of the kind.
    again = train(recipe_for(patches, resume=True, loss__class_weights="balanced", data__augmentation__mixup=0.2))
    assert again.metrics == result.metrics
    model.reset_classifier(2, classes=("x", "y"))
    assert model.metadata()["multi_label"] is True
    assert load_model(result.weights, num_classes=4).multi_label


def test_a_file_of_ours_says_it_wherever_it_is_loaded(tmp_path: Path) -> None:
    from swin_transformer_pytorch.models.card import model_card
    from swin_transformer_pytorch.models.saving import save_model

    small = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4}
    source = create_model("swin_tiny_patch4_window7_224", num_classes=3, **small)
    assert not source.multi_label
    assert "| classes | 3 |" in model_card(source, "user/x", "hf:user/x")
    source.multi_label = True
    assert "| classes | 3, any number an image |" in model_card(source, "user/x", "hf:user/x")
    save_model(source, tmp_path / "m.safetensors")
    assert create_model("swin_tiny_patch4_window7_224", tmp_path / "m.safetensors", **small).multi_label
    save_model(create_model("swin_tiny_patch4_window7_224", num_classes=3, **small), tmp_path / "s.safetensors")
    assert not create_model("swin_tiny_patch4_window7_224", tmp_path / "s.safetensors", **small).multi_label


def test_what_there_is_to_learn_decides_what_a_start_becomes(patches: Path, tmp_path: Path) -> None:
    """Several labels an image from a model of one, and the other way round."""
    from swin_transformer_pytorch.models.saving import save_model

    training, _ = prepare(recipe_for(patches), "cpu")
    assert isinstance(training, MultiLabelTraining) and training.model.multi_label
    save_model(training.model, tmp_path / "start.safetensors")
    for name, colour in COLOURS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (32, 32), colour).save(tmp_path / "photos" / name / f"{number}.png")
    start = {"model__config": None, "model__weights": str(tmp_path / "start.safetensors")}
    single, _ = prepare(recipe_for(tmp_path / "photos", **start), "cpu")
    assert not isinstance(single, MultiLabelTraining) and not single.model.multi_label


@pytest.mark.parametrize(
    ("labels", "overrides", "error", "message"),
    [
        ({"0.png": [], "1.png": []}, {}, DataError, "none of its 2 images a label"),
        (
            {"0.png": ["red"], "1.png": ["red"]},
            {"data__sampling": "balanced"},
            RecipeError,
            "images have several classes",
        ),
        (
            dict.fromkeys((f"{n}.png" for n in range(9)), ["red"]),
            {"loss__class_weights": "balanced"},
            RecipeError,
            "all",
        ),
        ({"0.png": ["red"], "1.png": []}, {}, DataError, "none of the 1 .* images has a label"),
        (
            {"0.png": ["red"], "1.png": ["red"]},
            {"model__num_classes": 7},
            RecipeError,
            "num_classes=7, .* has 1 classes",
        ),
    ],
)
def test_mistakes_are_named_before_a_step(
    labels: dict[str, list[str]], overrides: dict[str, Any], error: type[Exception], message: str, patches: Path
) -> None:
    (patches / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(error, match=message):
        prepare(recipe_for(patches, **overrides), "cpu")
