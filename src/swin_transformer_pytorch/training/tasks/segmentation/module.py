"""Training of segmenters as a Lightning module: the sum of both heads' losses, and a validation by mean IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ....data.images.dense_transforms import PreparedImage
from ....evaluation.segmentation import SegmentationEvaluator
from ....models.mask2former import Mask2Former
from ....models.segmentation import Segmenter
from ...recipes.segmentation import SegmentationRecipe
from ..dense.learning import Learning
from ..dense.module import DenseTraining
from .learning import LabelMap

Prepared = tuple[PreparedImage, UInt8[np.ndarray, "H W"]]


class SegmentationTraining(DenseTraining):
    """Trains a segmenter. Metrics: "val_miou", "val_macc" and "val_aacc", in [0, 1]; "val_miou_classes" is how many of
    the "val_num_classes" the first is the mean of.

    Args:
        learning: how the model does it.
    """

    main_metric = "val_miou"
    warmup = ("schedule.warmup_steps", 1500)
    model: Segmenter | Mask2Former
    recipe: SegmentationRecipe

    def __init__(
        self,
        model: Segmenter | Mask2Former,
        recipe: SegmentationRecipe,
        *,
        batch_size: int,
        learning: Learning[LabelMap],
    ) -> None:
        super().__init__(model, recipe, batch_size=batch_size)
        self._learning = learning
        self._evaluator = SegmentationEvaluator(model.num_classes, model.classes)

    def losses(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return self._learning.losses(self.model, batch)

    def begin_validation(self) -> None:
        self._evaluator = SegmentationEvaluator(self.model.num_classes, self.model.classes)

    def validation_step(self, batch: Sequence[Prepared | str], batch_idx: int) -> None:
        usable: list[Prepared] = self.unusable.usable(list(batch))
        images = [image for image, _ in usable]
        # In full precision, as the official code tests.
        with torch.autocast(self.device.type, enabled=False):
            maps = self._learning.answers(self.model, images)
        for found, (_, labels) in zip(maps, usable, strict=True):
            self._evaluator.update(found.cpu().numpy(), labels)

    def end_validation(self) -> dict[str, float]:
        counts = self.gathered([(self._evaluator.confusion_matrix, self._evaluator.num_images)])
        self._evaluator.confusion_matrix = np.sum([matrix for matrix, _ in counts], axis=0)
        self._evaluator.num_images = sum(number for _, number in counts)
        report = self._evaluator.report()
        scores = {"val_miou": report.miou, "val_macc": report.macc, "val_aacc": report.aacc}
        return {**scores, "val_miou_classes": report.num_scored, "val_num_classes": self.model.num_classes}
