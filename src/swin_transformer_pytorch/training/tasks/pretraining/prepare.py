"""A run of masked pre-training, before its first step: its data opened, its model built."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any, cast

import torch

from ....backbone.config import ConfigError
from ....data.errors import DataError
from ....data.shards.options import ShardOptions
from ....data.shards.places import has_shards
from ....models.masked import MaskedSwin
from ....weights.preprocessing import Preprocessing
from ...recipes.parts import RecipeError
from ...recipes.pretraining import PretrainingRecipe, UnlabelledDataRecipe
from ..batch_sizes import settle
from ..channels import settle_channels
from ..classification.data import choose_preprocessing
from ..models import build_model
from .data import PretrainingData
from .module import PretrainingTraining

_IMAGE_SIZE = 192  # of the official recipes

_log = logging.getLogger(__name__)


def prepare(recipe: PretrainingRecipe, device: str) -> tuple[PretrainingTraining, PretrainingData]:
    """What trains by the recipe, and on what. `device` is what the run will be on: "cpu", "cuda" or "mps"."""
    if recipe.data.kind == "folder" and recipe.data.root is not None and has_shards(recipe.data.root):
        recipe = recipe.replace({"data.kind": "shards"})
    if recipe.data.kind != "shards" and recipe.data.shards != ShardOptions():
        _log.warning("data.shards is left out, as %s is none of shards", recipe.data.root or recipe.data.kind)
    train, val = recipe.data.source(seed=recipe.trainer.seed).open_both()
    for name, images in (("training", train), ("validation", val)):
        if len(images) == 0:
            raise DataError(f"{recipe.data.root or recipe.data.kind}: there are no {name} images")
    channels = settle_channels(recipe.model, "pretraining", train, (val,))
    recipe = recipe.replace({"model.in_channels": channels})
    torch.manual_seed(recipe.trainer.seed)
    choose = functools.partial(_choose_preprocessing, recipe.data, channels, train)
    model = cast(MaskedSwin, build_model(recipe.model, "pretraining", (), prepare=choose))
    preprocessing = model.preprocessing
    assert preprocessing is not None, "it has just been chosen"
    try:
        model.config.mask_layout(preprocessing.image_size)
    except ConfigError as error:
        raise RecipeError(f"data.image_size or model.config_overrides: {error}") from error

    def make(settled: PretrainingRecipe) -> tuple[PretrainingTraining, PretrainingData]:
        data = PretrainingData(settled, train, val, preprocessing, model.config)
        return PretrainingTraining(model, settled, batch_size=data.batch_size), data

    return settle(recipe, len(train), device, make)


def _choose_preprocessing(
    recipe: UnlabelledDataRecipe, channels: int, images: Any, known: Preprocessing | None, own: Preprocessing | None
) -> Preprocessing:
    """As for a classifier, but for the recipe's filter and the side where nothing tells one."""
    if recipe.image_size is None and known is None and recipe.kind == "folder":
        recipe = dataclasses.replace(recipe, image_size=_IMAGE_SIZE)
    chosen = choose_preprocessing(recipe, channels, known, own, images=images)
    return dataclasses.replace(chosen, interpolation=recipe.interpolation)
