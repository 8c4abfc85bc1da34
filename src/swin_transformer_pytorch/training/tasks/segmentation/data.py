"""Segmentation: from a recipe's `data` to batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ....data.images.dense_transforms import DenseTransform, PreparedImage
from ....data.images.unusable import Samples
from ....data.segmentation.dataset import SegmentationSample
from ....data.segmentation.transforms import SegmentationTrainingTransform
from ....weights.preprocessing import DensePreprocessing
from ...recipes.segmentation import SegmentationRecipe
from ..dense.data import DenseData


class SegmentationData(DenseData):
    """A recipe's images with their label maps as Lightning wants them.

    Training's batches are what `collate` makes of images and label maps; validation's are lists of (prepared image,
    label map), or texts that say what is wrong with an image.
    """

    def __init__(
        self,
        recipe: SegmentationRecipe,
        train: Samples[SegmentationSample],
        val: Samples[SegmentationSample],
        preprocessing: DensePreprocessing,
        collate: Callable[[list[Any]], Any],
    ) -> None:
        super().__init__(
            recipe,
            train,
            val,
            groups=[0] * len(train),
            change=SegmentationTrainingTransform(preprocessing, recipe.data.augmentation),
            prepare=PrepareSegmentation(preprocessing),
            collate=collate,
        )


@dataclass(frozen=True)
class PrepareSegmentation:
    """A sample's image as the model takes it, and its label map as it is."""

    preprocessing: DensePreprocessing

    def __call__(self, sample: SegmentationSample) -> tuple[PreparedImage, UInt8[np.ndarray, "H W"]]:
        return DenseTransform(self.preprocessing)(sample.image), sample.labels
