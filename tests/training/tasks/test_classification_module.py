"""Validation of a classifier, against counts by hand; the model's logits are the images themselves."""

import math
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.images.unusable import ReplacedSamples
from swin_transformer_pytorch.training import RecipeError, load_recipe
from swin_transformer_pytorch.training.engine.seeding import Stream, generator
from swin_transformer_pytorch.training.recipes.classification import ModelRecipe, Recipe
from swin_transformer_pytorch.training.tasks.classification.mixup import mix
from swin_transformer_pytorch.training.tasks.classification.module import ClassificationTraining
from swin_transformer_pytorch.training.tasks.classification.prepare import class_weights

LOGITS = torch.randn(41, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(7, (41,), generator=torch.Generator().manual_seed(1))


class OneProcess(ClassificationTraining):
    """One of several processes, with what the others have counted."""

    others: tuple[Any, ...] = ()

    def gathered(self, items: list[Any]) -> list[Any]:
        self.sent = items
        return [*items, *self.others]


class Flat(nn.Module):
    """Logits that are the images themselves."""

    num_classes = 7

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).to(self.dtype)


class OneOfTwo(OneProcess):
    """One of two processes, with what the other one gathers, call by call."""

    calls: list[list[Any]]

    def gathered(self, items: list[Any]) -> list[Any]:
        return [*items, *self.calls.pop(0)]


Kind = TypeVar("Kind", bound=OneProcess)


def validated(places: range, kind: type[Kind] = OneProcess) -> Kind:  # type: ignore[assignment]
    model = nn.Flatten()
    model.num_classes = 7  # type: ignore[assignment]
    recipe = Recipe(model=ModelRecipe(name="swin_tiny_patch4_window7_224"))
    training = kind(model, recipe, batch_size=4)  # type: ignore[arg-type]
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
    order = LOGITS.argsort(dim=1, descending=True)
    assert metrics["val_top1"] == int((order[:, 0] == LABELS).sum()) / 41
    assert metrics["val_top5"] == int((order[:, :5] == LABELS[:, None]).sum()) / 41
    assert metrics["val_loss"] == pytest.approx(F.cross_entropy(LOGITS, LABELS).item(), rel=1e-6)
    training.begin_validation()
    training.others = ()
    with pytest.raises(DataError, match="none of the validation images"):
        training.end_validation()


def test_outputs_that_are_no_numbers_do_not_end_a_run() -> None:
    training = validated(range(4))
    training.validation_step((torch.full((2, 7, 1, 1), math.nan), torch.tensor([1, 2]), []), 1)
    assert math.isnan(training.end_validation()["val_loss"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_is_that_of_mixed_and_smoothed_targets_in_float32(smoothing: float, dtype: torch.dtype) -> None:
    augmentation = {"mixup": 0.8, "cutmix": 0.0, "mixup_prob": 1.0}
    recipe = load_recipe("demo_classification", {f"data.augmentation.{k}": v for k, v in augmentation.items()})
    recipe = recipe.replace({"loss.label_smoothing": smoothing})
    training = ClassificationTraining(Flat(dtype), recipe, batch_size=4)  # type: ignore[arg-type]
    images, labels = LOGITS[:8, :, None, None], LABELS[:8]
    (loss,) = training.losses((images, labels), 0).values()
    targets = torch.full((8, 7), smoothing / 7)
    targets[torch.arange(8), labels] += 1 - smoothing
    mixed, targets = mix(images, targets, recipe.data.augmentation, generator(Stream.MIX, recipe.trainer.seed, 0, 0, 0))
    expected = -(targets * mixed.flatten(1).to(dtype).float().log_softmax(1)).sum(1).mean()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_unusable_images_are_counted_over_all_processes() -> None:
    train_samples = ReplacedSamples(range(10))
    # Five of the ten validation images are this process's own.
    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(train_samples=train_samples),
        val_dataloaders=DataLoader(Subset(range(10), range(0, 10, 2))),  # type: ignore[arg-type]
    )
    training = validated(range(4), OneOfTwo)
    training.trainer = trainer  # type: ignore[assignment]

    def validate(own: list[str], problems: list[str], indices: list[int]) -> None:
        training.on_validation_start()
        training.validation_step((LOGITS[:4, :, None, None], LABELS[:4], own), 0)
        training.calls = [problems, indices, []]
        training.on_validation_epoch_end()

    # Two of its five are no more than a fifth of the ten.
    validate(["a is damaged", "b is damaged"], [], [3, 4])
    assert training.metrics["val_loss"] > 0
    assert training.unusable.summary() == "2 of 10 validation images could not be used"
    assert train_samples.summary() == "2 of 10 training images could not be used"
    validate(["a is damaged", "b is damaged"], ["b is damaged"], [4])
    assert train_samples.summary() == "2 of 10 training images could not be used"
    with pytest.raises(DataError, match="3 of 10 training images"):
        validate([], [], [5])
    with pytest.raises(DataError, match="3 of 10 validation images"):
        validate([], ["c is damaged"], [])


@pytest.mark.parametrize(
    ("chosen", "counts", "expected"),
    [
        (None, {"a": 1, "b": 3}, None),
        ((2.0, 0.5), {"a": 1, "b": 3}, (2.0, 0.5)),
        ("balanced", {"a": 1, "b": 3}, (2.0, 2 / 3)),
        ("balanced", {"a": 5, "b": 5}, (1.0, 1.0)),
    ],
)
def test_class_weights_are_the_recipes_or_balance(chosen: Any, counts: dict[str, int], expected: Any) -> None:
    assert class_weights(chosen, counts) == expected


@pytest.mark.parametrize(
    ("chosen", "message"), [((1.0,), "1 numbers for 2 classes"), ("balanced", "no training image of b")]
)
def test_class_weights_that_do_not_fit_are_one_error(chosen: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        class_weights(chosen, {"a": 1, "b": 0})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_weights_multiply_the_loss_of_each_image_and_not_what_smoothing_adds(smoothing: float, mixup: float) -> None:
    values = {"loss.label_smoothing": smoothing, "data.augmentation.mixup": mixup, "data.augmentation.cutmix": 0.0}
    recipe = load_recipe("demo_classification", values)
    weights = torch.arange(1.0, 8.0)
    module = ClassificationTraining(Flat(torch.float32), recipe, batch_size=41, class_weights=tuple(weights.tolist()))  # type: ignore
    images = LOGITS[:40, :, None, None]
    loss = ClassificationTraining.losses(module, (images, LABELS[:40]), 0)["loss_ce"]
    random = generator(Stream.MIX, recipe.trainer.seed, 0, 0, 0)
    mixed, targets = mix(images, F.one_hot(LABELS[:40], 7).float(), recipe.data.augmentation, random)
    smooth = targets * (1 - smoothing) + smoothing / 7
    single = -(smooth * mixed.flatten(1).log_softmax(1)).sum(1)
    torch.testing.assert_close(loss, (single * (targets * weights).sum(1)).mean())
