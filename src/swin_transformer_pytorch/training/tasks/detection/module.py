"""Training of detectors as a Lightning module: the sum of the losses, and a validation by COCO's measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ....data.detection.transforms import DetectionBatch
from ....data.images.dense_transforms import PreparedImage
from ....evaluation.coco import CocoEvaluator, DetectionScores
from ....models.detection import Detector
from ....models.detection_inference import detect
from ....models.detection_results import instances_to_detections
from ...recipes.detection import DetectionRecipe
from ..dense.module import DenseTraining

if TYPE_CHECKING:
    from ....evaluation.coco import Detections

Prepared = tuple[int, PreparedImage]


class DetectionTraining(DenseTraining):
    """Trains a detector.

    Metrics, all in [0, 1]: "val_box_ap" (over IoU 0.5 to 0.95), "val_box_ap50", "val_box_ap75", and the same of masks,
    "val_mask_ap", ..., where the annotations have masks.

    Args:
        annotations: makes COCO's dictionary of the validation images.
    """

    main_metric = "val_box_ap"
    warmup = ("schedule.warmup_steps", 500)
    model: Detector
    recipe: DetectionRecipe

    def __init__(
        self,
        model: Detector,
        recipe: DetectionRecipe,
        *,
        batch_size: int,
        annotations: Callable[[], Mapping[str, Any]],
    ) -> None:
        super().__init__(model, recipe, batch_size=batch_size)
        self._annotations = annotations
        self._found: list[tuple[int, Detections]] = []

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # A validation batch is moved part by part.
        return batch.to(device) if isinstance(batch, DetectionBatch) else batch

    def losses(self, batch: DetectionBatch, batch_idx: int) -> dict[str, Tensor]:
        return self.model.losses(batch.images, batch.targets, batch.image_sizes)

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
            found = detect(self.model, [image.pixels for image in images], [image.scale_factor for image in images])
        names = self.model.classes  # looked up once: it looks at each class layer
        for (image_id, image), one in zip(usable, found, strict=True):
            self._found.append((image_id, instances_to_detections(one, image.original_size, names)))

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
