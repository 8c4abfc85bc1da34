"""A detector's run, before its first step: its data opened, its model built."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import cast

import torch

from ....data.detection.coco import CocoDataset
from ....models.config import DetectorConfig
from ....models.detection import Detector
from ....models.mask2former import Mask2Former
from ....models.registry import as_official
from ....weights.preprocessing import DensePreprocessing
from ...engine.strategy import with_shared_batch_norms
from ...recipes.detection import DetectionRecipe
from ..batch_sizes import settle
from ..channels import settle_channels
from ..dense.learning import tell_queries
from ..image_sizes import dense_preprocessing
from ..models import build_model
from ..test_part import open_test
from .data import DetectionData, open_detection
from .learning import learning_of
from .module import DetectionTraining


def prepare(recipe: DetectionRecipe, device: str) -> tuple[DetectionTraining, DetectionData]:
    """What trains by the recipe, and on what. `device` is what the run will be on: "cpu", "cuda" or "mps"."""
    config = recipe.model.described_config("detection")
    stuff = isinstance(config, DetectorConfig) and config.method == "htc"
    train, val = open_detection(recipe.data, seed=recipe.trainer.seed, stuff=stuff)
    channels = settle_channels(recipe.model, "detection", train, (val,))
    recipe = recipe.replace({"model.in_channels": channels})
    torch.manual_seed(recipe.trainer.seed)
    official, scale = as_official(DensePreprocessing.coco(), config), recipe.data.scale
    prepared = functools.partial(dense_preprocessing, official, scale, train, channels=channels)
    built = cast(Detector | Mask2Former, build_model(recipe.model, "detection", train.classes, prepare=prepared))
    if isinstance(built, Mask2Former) and isinstance(train, CocoDataset):
        counts = [train.num_objects(index) for index in range(len(train))]
        tell_queries(counts, built.config.num_queries, len(train), what="objects")
    assert built.preprocessing is not None, "it has just been chosen"
    scale, learning = built.preprocessing.scale, learning_of(built)
    recipe = recipe.replace({"data.scale": scale, "data.augmentation": recipe.data.augmentation.at(scale)})

    def make(settled: DetectionRecipe) -> tuple[DetectionTraining, DetectionData]:
        assert built.preprocessing is not None
        data = DetectionData(settled, train, val, built.preprocessing, learning.collate)
        size = data.batch_size
        return DetectionTraining(built, settled, batch_size=size, learning=learning, annotations=val.coco), data

    module, data = settle(recipe, len(train), device, make)
    data.test_samples = open_test(replace(recipe.data.source(stuff=False), classes=train.classes, channels=channels))
    module.model = cast(Detector | Mask2Former, with_shared_batch_norms(built, device, recipe.trainer.world_size))
    return module, data
