"""Training of segmenters as a Lightning module: the sum of both heads' losses, and a validation by mean IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ....data.images.dense_transforms import PreparedImage
from ....data.segmentation.transforms import SegmentationBatch
from ....evaluation.segmentation import SegmentationEvaluator
from ....models.segmentation import PixelLosses, Segmenter
from ....models.segmentation_inference import segment
from ...recipes.parts import require_one_a_class
from ...recipes.segmentation import SegmentationRecipe
from ..dense.module import DenseTraining

Prepared = tuple[PreparedImage, UInt8[np.ndarray, "H W"]]


class SegmentationTraining(DenseTraining):
    """Trains a segmenter. Metrics: "val_miou", "val_macc" and "val_aacc", in [0, 1]; "val_miou_classes" is how many of
    the "val_num_classes" the first is the mean of.
    """

    main_metric = "val_miou"
    warmup = ("schedule.warmup_steps", 1500)
    model: Segmenter
    recipe: SegmentationRecipe

    def __init__(self, model: Segmenter, recipe: SegmentationRecipe, *, batch_size: int) -> None:
        super().__init__(model, recipe, batch_size=batch_size)
        self._evaluator = SegmentationEvaluator(model.num_classes, model.classes)
        chosen, weights = recipe.loss, recipe.loss.class_weights
        require_one_a_class(weights, model.num_classes)
        self._pixel_losses = PixelLosses(
            focal_gamma=chosen.focal_gamma, class_weights=weights, dice_weight=chosen.dice_weight
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # A validation batch is moved part by part.
        return batch.to(device) if isinstance(batch, SegmentationBatch) else batch

    def losses(self, batch: SegmentationBatch, batch_idx: int) -> dict[str, Tensor]:
        return self.model.losses(batch.images, batch.labels, self._pixel_losses)

    def begin_validation(self) -> None:
        self._evaluator = SegmentationEvaluator(self.model.num_classes, self.model.classes)

    def validation_step(self, batch: Sequence[Prepared | str], batch_idx: int) -> None:
        usable: list[Prepared] = self.unusable.usable(list(batch))
        images = [image for image, _ in usable]
        # In full precision, as the official code tests.
        with torch.autocast(self.device.type, enabled=False):
            maps = segment(self.model, [image.pixels for image in images], [image.original_size for image in images])
        for found, (_, labels) in zip(maps, usable, strict=True):
            self._evaluator.update(found.cpu().numpy(), labels)

    def end_validation(self) -> dict[str, float]:
        counts = self.gathered([(self._evaluator.confusion_matrix, self._evaluator.num_images)])
        self._evaluator.confusion_matrix = np.sum([matrix for matrix, _ in counts], axis=0)
        self._evaluator.num_images = sum(number for _, number in counts)
        report = self._evaluator.report()
        scores = {"val_miou": report.miou, "val_macc": report.macc, "val_aacc": report.aacc}
        return {**scores, "val_miou_classes": report.num_scored, "val_num_classes": self.model.num_classes}
