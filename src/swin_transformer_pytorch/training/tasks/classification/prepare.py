"""A classifier's run, before its first step: its data opened, its model built."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal, cast

import torch

from ....data.errors import some
from ....models.classification import SwinClassifier
from ...recipes.classification import Recipe
from ...recipes.parts import RecipeError, require_one_a_class
from ..batch_sizes import settle
from ..models import build_model
from .data import ClassificationData, choose_preprocessing, open_splits
from .module import ClassificationTraining


def prepare(recipe: Recipe, device: str) -> tuple[ClassificationTraining, ClassificationData]:
    """What trains by the recipe, and on what. `device` is what the run will be on: "cpu", "cuda" or "mps"."""
    splits = open_splits(recipe.data, channels=recipe.model.in_channels, seed=recipe.trainer.seed)
    torch.manual_seed(recipe.trainer.seed)
    choose = functools.partial(choose_preprocessing, recipe.data, recipe.model.in_channels, images=splits.train)
    model = cast(SwinClassifier, build_model(recipe.model, "classification", splits.classes, prepare=choose))
    assert model.preprocessing is not None, "it has just been chosen"
    if recipe.data.image_size == "auto":
        recipe = recipe.replace({"data.image_size": model.preprocessing.image_size})

    def make(settled: Recipe) -> tuple[ClassificationTraining, ClassificationData]:
        assert model.preprocessing is not None
        data = ClassificationData(settled, splits, model.preprocessing)
        weights = class_weights(settled.loss.class_weights, data.class_counts())
        return ClassificationTraining(model, settled, batch_size=data.batch_size, class_weights=weights), data

    return settle(recipe, len(splits.train), device, make)


def class_weights(
    chosen: tuple[float, ...] | Literal["balanced"] | None, counts: Mapping[str, int]
) -> tuple[float, ...] | None:
    """The recipe's `loss.class_weights` as numbers, one a class.

    Raises:
        RecipeError: there are more or fewer numbers than classes, or a class without a training image to be balanced.
    """
    if chosen is None or isinstance(chosen, tuple):
        require_one_a_class(chosen, len(counts))
        return chosen
    if empty := [name for name, count in counts.items() if not count]:
        raise RecipeError(f"loss.class_weights='balanced', but there is no training image of {some(empty)}; add some")
    mean = sum(counts.values()) / len(counts)
    return tuple(mean / count for count in counts.values())
