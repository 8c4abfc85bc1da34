"""A segmenter's run, before its first step: its data opened, its model built."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import cast

import torch

from ....data.segmentation.dataset import SegmentationFolder
from ....data.segmentation.label_counts import check_labels
from ....data.segmentation.source import DRAWN_KINDS
from ....models.mask2former import Mask2Former
from ....models.registry import as_official
from ....models.segmentation import Segmenter
from ....weights.preprocessing import DensePreprocessing
from ...engine.strategy import with_shared_batch_norms
from ...recipes.segmentation import SegmentationRecipe, require_several_images
from ..batch_sizes import settle
from ..channels import settle_channels
from ..image_sizes import dense_preprocessing, usual_sides
from ..models import build_model
from ..test_part import open_test
from .data import SegmentationData
from .learning import learning_of
from .module import SegmentationTraining


def prepare(recipe: SegmentationRecipe, device: str) -> tuple[SegmentationTraining, SegmentationData]:
    """What trains by the recipe, and on what. `device` is what the run will be on: "cpu", "cuda" or "mps"."""
    source = recipe.data.source(seed=recipe.trainer.seed)
    train = source.open("train")
    if source.kind in DRAWN_KINDS:  # a part of the annotations need not have all classes
        source = replace(source, classes=train.classes)
    val = source.open("val")
    if isinstance(train, SegmentationFolder) and isinstance(val, SegmentationFolder):
        check_labels(train, "train")
        check_labels(val, "val")
    channels = settle_channels(recipe.model, "segmentation", train, (val,))
    recipe = recipe.replace({"model.in_channels": channels})
    torch.manual_seed(recipe.trainer.seed)
    config = recipe.model.described_config("segmentation")
    official, scale = as_official(DensePreprocessing.ade20k(), config), recipe.data.scale
    prepared = functools.partial(dense_preprocessing, official, scale, train, channels=channels)
    built = cast(
        Segmenter | Mask2Former,
        build_model(recipe.model, "segmentation", train.classes, palette=train.palette, prepare=prepared),
    )
    if isinstance(built, Segmenter):
        require_several_images(recipe)
    learning = learning_of(built, recipe.loss)
    assert built.preprocessing is not None, "it has just been chosen"
    scale, augmentation = built.preprocessing.scale, recipe.data.augmentation
    sides = usual_sides(train) if scale is None and augmentation.crop_size == "auto" else None
    recipe = recipe.replace({"data.scale": scale, "data.augmentation": augmentation.at(scale, sides and sides[1])})

    def make(settled: SegmentationRecipe) -> tuple[SegmentationTraining, SegmentationData]:
        assert built.preprocessing is not None
        data = SegmentationData(settled, train, val, built.preprocessing, learning.collate)
        return SegmentationTraining(built, settled, batch_size=data.batch_size, learning=learning), data

    module, data = settle(recipe, len(train), device, make)
    data.test_samples = open_test(replace(source, channels=channels))
    module.model = cast(Segmenter | Mask2Former, with_shared_batch_norms(built, device, recipe.trainer.world_size))
    return module, data
