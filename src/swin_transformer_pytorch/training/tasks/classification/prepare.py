"""A classifier's run, before its first step: its data opened, its model built."""

from __future__ import annotations

import functools
from typing import cast

import torch

from ....models.classification import SwinClassifier
from ...recipes.classification import Recipe
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
    data = ClassificationData(recipe, splits, model.preprocessing)
    return ClassificationTraining(model, recipe, batch_size=data.batch_size), data
