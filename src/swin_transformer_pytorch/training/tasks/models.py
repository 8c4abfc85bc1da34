"""From a recipe's `model` to a model: built, filled with the weights that it starts from, or drawn at random."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from ...backbone.config import SwinConfig
from ...models.classification import SwinClassifier
from ...models.config import DetectorConfig
from ...models.registry import create_model, load_model
from ...weights.load import load_weights
from ..recipes.classification import ModelRecipe
from ..recipes.dense import DenseModelRecipe
from ..recipes.parts import RecipeError, Task

if TYPE_CHECKING:
    from ...models.detection import Detector
    from ...models.segmentation import Segmenter

_log = logging.getLogger(__name__)


def build_model(recipe: ModelRecipe, classes: tuple[str, ...]) -> SwinClassifier:
    """The recipe's classifier with these classes, and with the weights that it starts from.

    Raises:
        RecipeError: `recipe.num_classes` is another number than that of the classes, or the weights are another task's.
    """
    _check_num_classes(recipe.num_classes, classes)
    overrides = recipe.config_overrides
    if recipe.name is not None:
        model = create_model(recipe.name, recipe.weights, len(classes), recipe.in_channels, **overrides)
        assert isinstance(model, SwinClassifier), "the recipe has checked the name"
    else:
        known: SwinClassifier | None = None
        if recipe.config is None and recipe.weights is not None:
            known = cast(SwinClassifier, _load_for_task(recipe.weights, "classification"))
        config = known.config if known is not None else SwinConfig.from_dict(recipe.config or {})
        config = config.replace(**{**overrides, "in_channels": recipe.in_channels})
        model = SwinClassifier(
            config,
            num_classes=len(classes),
            preprocessing=known.preprocessing if known is not None else None,
            name=known.name if known is not None else None,
        )
        if recipe.weights is not None:
            _log.warning("%s", load_weights(model, recipe.weights))
    if recipe.init == "fan_in":
        _init_by_fan_in(model)
    model.classes = classes
    return model


def build_dense_model(recipe: DenseModelRecipe, task: Task, classes: tuple[str, ...]) -> Detector | Segmenter:
    """The recipe's detector or segmenter with these classes, and with the weights that it starts from.

    Raises:
        RecipeError: `recipe.num_classes` is another number than that of the classes, or the weights are another task's.
    """
    _check_num_classes(recipe.num_classes, classes)
    overrides: dict[str, Any] = recipe.config_overrides
    model: Detector | Segmenter
    if recipe.name is not None:
        named = create_model(recipe.name, recipe.weights, len(classes), **overrides)
        assert not isinstance(named, SwinClassifier), "the recipe has checked the name"
        model = named
    else:
        known: Detector | Segmenter | None = None
        config = recipe.described_config(task)
        if config is None:
            assert recipe.weights is not None, "the recipe has checked that there is a model"
            known = cast("Detector | Segmenter", _load_for_task(recipe.weights, task))
            config = known.config.replace(**overrides)
        config = config.replace(num_classes=len(classes))
        name = known.name if known is not None else None
        preprocessing = known.preprocessing if known is not None else None
        if isinstance(config, DetectorConfig):
            from ...models.detection import build_detector

            model = build_detector(config, preprocessing=preprocessing, name=name)
        else:
            from ...models.segmentation import build_segmenter

            model = build_segmenter(config, preprocessing=preprocessing, name=name)
        if recipe.weights is not None:
            _log.warning("%s", load_weights(model, recipe.weights))
    if recipe.init == "fan_in":
        _init_by_fan_in(model.backbone)
    model.classes = classes
    return model


def _check_num_classes(num_classes: int | None, classes: tuple[str, ...]) -> None:
    if num_classes not in (None, len(classes)):
        raise RecipeError(f"model.num_classes={num_classes}, but the data has {len(classes)} classes; leave it out")


def _load_for_task(weights: str, task: Task) -> nn.Module:
    model = load_model(weights)
    if model.task != task:
        raise RecipeError(
            f"model.weights={weights!r} is a model for {model.task} and this recipe is for {task}; give model.name "
            "too, or weights for this task"
        )
    return model


def _init_by_fan_in(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and name.endswith(".weight") and not name.startswith("head."):
            nn.init.trunc_normal_(parameter, std=parameter.shape[1] ** -0.5)
