"""A panoptic segmenter's run, before its first step: its data opened, its model built."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import cast

import torch

from ....data.held_out import Split
from ....data.panoptic.segment_counts import check_segments
from ....data.scenes.panoptic import PanopticScenes
from ....models.mask2former import Mask2Former
from ....weights.preprocessing import DensePreprocessing
from ...engine.strategy import with_shared_batch_norms
from ...recipes.panoptic import PanopticRecipe
from ..batch_sizes import settle
from ..channels import settle_channels
from ..dense.learning import tell_queries
from ..image_sizes import dense_preprocessing, usual_sides
from ..models import build_model
from ..test_part import open_test
from .data import PanopticData, PanopticImages, open_panoptic, with_classes_of
from .module import PanopticTraining


def prepare(recipe: PanopticRecipe, device: str) -> tuple[PanopticTraining, PanopticData]:
    """What trains by the recipe, and on what. `device` is what the run will be on: "cpu", "cuda" or "mps"."""
    train, val = open_panoptic(recipe.data, seed=recipe.trainer.seed)
    counts = _checked(train, "train")
    _checked(val, "val")
    channels = settle_channels(recipe.model, "panoptic", train, (val,))
    recipe = recipe.replace({"model.in_channels": channels})
    torch.manual_seed(recipe.trainer.seed)
    official, scale = DensePreprocessing(antialias=True), recipe.data.scale
    prepared = functools.partial(dense_preprocessing, official, scale, train, channels=channels)
    built = cast(
        Mask2Former,
        build_model(
            recipe.model, "panoptic", train.classes, palette=train.palette, things=train.things, prepare=prepared
        ),
    )
    tell_queries(counts, built.config.num_queries, len(train), what="segments")
    assert built.preprocessing is not None, "it has just been chosen"
    scale, augmentation = built.preprocessing.scale, recipe.data.augmentation
    sides = usual_sides(train) if scale is None and augmentation.crop_size == "auto" else None
    recipe = recipe.replace({"data.scale": scale, "data.augmentation": augmentation.at(scale, sides and sides[1])})

    def make(settled: PanopticRecipe) -> tuple[PanopticTraining, PanopticData]:
        assert built.preprocessing is not None
        data = PanopticData(settled, train, val, built.preprocessing)
        return PanopticTraining(built, settled, batch_size=data.batch_size), data

    module, data = settle(recipe, len(train), device, make)
    source = recipe.data.source(seed=recipe.trainer.seed)
    data.test_samples = open_test(
        replace(with_classes_of(source, train), channels=channels), lambda samples: _checked(samples, "test")
    )
    module.model = cast(Mask2Former, with_shared_batch_norms(built, device, recipe.trainer.world_size))
    return module, data


def _checked(samples: PanopticImages, split: Split) -> list[int]:
    """See `check_segments`. Scenes have some."""
    return [] if isinstance(samples, PanopticScenes) else check_segments(samples, split)
