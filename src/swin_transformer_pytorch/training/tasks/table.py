"""What differs between tasks when a run begins: data, model, and the module that trains it."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, cast

import torch

from ...models.config import DetectorConfig
from ...weights.preprocessing import DensePreprocessing
from ..engine.data import TrainingData
from ..engine.module import Training
from ..engine.strategy import with_shared_batch_norms
from ..recipes.classification import Recipe
from ..recipes.detection import DetectionRecipe
from ..recipes.files import AnyRecipe
from .models import build_model

if TYPE_CHECKING:
    from ...models.classification import SwinClassifier
    from ..recipes.segmentation import SegmentationRecipe


def prepare(recipe: AnyRecipe, device: str) -> tuple[Training, TrainingData]:
    """Opens the data of a recipe and builds its model, by the task's own rules.

    Args:
        recipe: of any task.
        device: what the run will be on: "cpu", "cuda" or "mps".
    """
    if isinstance(recipe, Recipe):
        return _prepare_classification(recipe)
    if isinstance(recipe, DetectionRecipe):
        return _prepare_detection(recipe, device)
    return _prepare_segmentation(recipe, device)


# Each task's modules are imported when it is that task's turn.


def _prepare_classification(recipe: Recipe) -> tuple[Training, TrainingData]:
    from .classification.data import ClassificationData, choose_preprocessing, open_splits
    from .classification.module import ClassificationTraining

    splits = open_splits(recipe.data, channels=recipe.model.in_channels, seed=recipe.trainer.seed)
    torch.manual_seed(recipe.trainer.seed)
    choose = functools.partial(choose_preprocessing, recipe.data, recipe.model.in_channels)
    model = cast("SwinClassifier", build_model(recipe.model, "classification", splits.classes, prepare=choose))
    assert model.preprocessing is not None, "it has just been chosen"
    data = ClassificationData(recipe, splits, model.preprocessing)
    return ClassificationTraining(model, recipe, batch_size=data.batch_size), data


def _prepare_detection(recipe: DetectionRecipe, device: str) -> tuple[Training, TrainingData]:
    from ...models.detection import Detector
    from .detection.data import DetectionData, open_detection
    from .detection.module import DetectionTraining

    config = recipe.model.described_config("detection")
    stuff = isinstance(config, DetectorConfig) and config.method == "htc"
    splits = open_detection(recipe.data, seed=recipe.trainer.seed, stuff=stuff)
    torch.manual_seed(recipe.trainer.seed)
    scaled = functools.partial(_scaled, DensePreprocessing.coco(), recipe.data.scale)
    built = cast(Detector, build_model(recipe.model, "detection", splits.train.classes, prepare=scaled))
    assert built.preprocessing is not None, "it has just been chosen"
    data = DetectionData(recipe, splits, built.preprocessing)
    model = cast(Detector, with_shared_batch_norms(built, device, recipe.trainer.devices))
    return DetectionTraining(model, recipe, batch_size=data.batch_size, annotations=splits.annotations), data


def _prepare_segmentation(recipe: SegmentationRecipe, device: str) -> tuple[Training, TrainingData]:
    from ...models.segmentation import Segmenter
    from .segmentation.data import SegmentationData, open_segmentation
    from .segmentation.module import SegmentationTraining

    splits = open_segmentation(recipe.data, seed=recipe.trainer.seed)
    torch.manual_seed(recipe.trainer.seed)
    scaled = functools.partial(_scaled, DensePreprocessing.ade20k(), recipe.data.scale)
    classes, palette = splits.train.classes, splits.train.palette
    built = cast(Segmenter, build_model(recipe.model, "segmentation", classes, palette=palette, prepare=scaled))
    assert built.preprocessing is not None, "it has just been chosen"
    data = SegmentationData(recipe, splits, built.preprocessing)
    model = cast(Segmenter, with_shared_batch_norms(built, device, recipe.trainer.devices))
    return SegmentationTraining(model, recipe, batch_size=data.batch_size), data


def _scaled(
    usual: DensePreprocessing, scale: tuple[int, int] | None, known: DensePreprocessing | None
) -> DensePreprocessing:
    """The weights' own preprocessing, else the usual one, at the recipe's scale."""
    return dataclasses.replace(known or usual, scale=scale)
