"""Training of detectors as a Lightning module: the sum of the losses, and a validation by COCO's measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ....data.images.dense_transforms import PreparedImage
from ....evaluation.coco import CocoEvaluator, DetectionScores
from ....models.detection import Detector
from ....models.mask2former import Mask2Former
from ...recipes.detection import DetectionRecipe
from ..dense.learning import Learning
from ..dense.module import DenseTraining

if TYPE_CHECKING:
    from ....evaluation.coco import Detections

Prepared = tuple[int, PreparedImage]


class DetectionTraining(DenseTraining):
    """Trains a detector.

    Metrics, all in [0, 1]: "val_box_ap" (over IoU 0.5 to 0.95), "val_box_ap50", "val_box_ap75", and the same of masks,
    "val_mask_ap", ..., where the annotations have masks.

    Args:
        learning: how the model does it.
        annotations: makes COCO's dictionary of the validation images.
    """

    main_metric = "val_box_ap"
    warmup = ("schedule.warmup_steps", 500)
    model: Detector | Mask2Former
    recipe: DetectionRecipe

    def __init__(
        self,
        model: Detector | Mask2Former,
        recipe: DetectionRecipe,
        *,
        batch_size: int,
        learning: Learning[Detections],
        annotations: Callable[[], Mapping[str, Any]],
    ) -> None:
        super().__init__(model, recipe, batch_size=batch_size)
        self._learning = learning
        if learning.main_metric is not None and not recipe.data.box_masks:  # else there may be no masks to measure by
            self.main_metric = learning.main_metric
        self._annotations = annotations
        self._found: list[tuple[int, Detections]] = []

    def losses(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return self._learning.losses(self.model, batch)

    def on_test_start(self) -> None:
        super().on_test_start()
        self._annotations = self.trainer.datamodule.test_samples.coco  # type: ignore[attr-defined]

    def begin_validation(self) -> None:
        self._found = []

    def validation_step(self, batch: Sequence[Prepared | str], batch_idx: int) -> None:
        usable: list[Prepared] = self.unusable.usable(list(batch))
        images = [image for _, image in usable]
        # In full precision, as the official code tests.
        with torch.autocast(self.device.type, enabled=False):
            found = self._learning.answers(self.model, images)
        self._found += [(image_id, one) for (image_id, _), one in zip(usable, found, strict=True)]

    def end_validation(self) -> dict[str, float]:
        assert self.model.classes is not None
        evaluator = CocoEvaluator(self._annotations(), classes=self.model.classes)
        for image_id, detections in self.gathered(self._found):
            evaluator.update(image_id, detections)
        self._found = []
        report = evaluator.report()
        metrics = _three_numbers("box", report.boxes)
        return metrics | (_three_numbers("mask", report.masks) if report.masks is not None else {})


def _three_numbers(kind: str, scores: DetectionScores) -> dict[str, float]:
    """Where there is nothing to measure, nothing was found."""
    return {f"val_{kind}_{name.lower()}": scores.metrics[name] or 0.0 for name in ("AP", "AP50", "AP75")}
