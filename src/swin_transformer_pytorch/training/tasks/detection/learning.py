"""How detectors learn and answer: those of boxes, and a Mask2Former."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from ....data.detection.transforms import DetectionBatch, collate_detection
from ....data.images.dense_transforms import PreparedImage
from ....data.mask_batches import collate_objects
from ....models.detection import Detector
from ....models.detection_inference import detect
from ....models.detection_results import instances_to_detections
from ....models.mask2former import Mask2Former
from ....models.mask_results import objects_of
from ....results import Detections
from ..dense.learning import Learning, mask_losses, queries_of


def learning_of(model: Detector | Mask2Former) -> Learning[Detections]:
    """By what the model is."""
    assert model.preprocessing is not None, "it says how images are padded"
    padded_to = model.preprocessing.size_divisor
    if isinstance(model, Mask2Former):
        return Learning(
            collate=partial(collate_objects, size_divisor=padded_to),
            losses=mask_losses,
            answers=_masked_objects,
            main_metric="val_mask_ap",  # its boxes are but those of its masks
        )
    return Learning(collate=partial(collate_detection, size_divisor=padded_to), losses=_losses, answers=_objects)


def _losses(model: Detector, batch: DetectionBatch) -> dict[str, Tensor]:
    return model.losses(batch.images, batch.targets, batch.image_sizes)


def _objects(model: Detector, images: Sequence[PreparedImage]) -> list[Detections]:
    found = detect(model, [image.pixels for image in images], [image.scale_factor for image in images])
    names = model.classes  # looked up once: it looks at each class layer
    return [instances_to_detections(one, image.original_size, names) for one, image in zip(found, images, strict=True)]


def _masked_objects(model: Mask2Former, images: Sequence[PreparedImage]) -> list[Detections]:
    names = model.classes
    return [objects_of(model, one, names) for one in queries_of(model, images)]
