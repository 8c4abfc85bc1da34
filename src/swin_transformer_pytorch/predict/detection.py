"""Images to the objects in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data.images.dense_transforms import DenseTransform, PreparedImage
from ..data.images.pixels import ImageInput
from ..data.transforms import create_transform
from ..models.detection import InstancePredictions
from ..models.detection_inference import check_has_parts, detect, detect_multi_scale
from ..models.detection_results import instances_to_detections
from ..results import Detections
from .task import check_class_layers, class_names, views_of

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Sizes of multi-scale detection, as parts of the model's own. The authors published none; these are ours."""


class DetectionTask:
    """Finds the objects of each image, in the image's own pixels. See `PredictionTask`.

    Args:
        model: a detector.
        score_threshold: least score of what is given; None for all that the model gives.
        multi_scale: whether to look at each image at each of `SCALES`.
        flip: whether to look at its mirror image too.

    Raises:
        DetectionError: several views are asked of an exported file.
    """

    batch_size = 4

    def __init__(self, model: Any, *, score_threshold: float | None, multi_scale: bool, flip: bool) -> None:
        self.model = model
        self.score_threshold = score_threshold
        self.flip = flip
        self.ratios = SCALES if multi_scale else (1.0,)
        check_class_layers(model)
        if multi_scale or flip:
            check_has_parts(model)
        self.transform: DenseTransform = create_transform(model)

    def prepare(self, image: ImageInput) -> list[PreparedImage]:
        """One image -> its views, resized and normalised but not padded."""
        return views_of(image, self.transform, self.ratios)

    def predict(self, prepared: Sequence[list[PreparedImage]]) -> list[Detections]:
        """See `detect`, and `detect_multi_scale`."""
        if self.flip or len(self.ratios) > 1:
            found = [
                detect_multi_scale(
                    self.model, [view.pixels for view in views], [view.scale_factor for view in views], flip=self.flip
                )
                for views in prepared
            ]
        else:
            images = [views[0] for views in prepared]
            found = detect(self.model, [image.pixels for image in images], [image.scale_factor for image in images])
        return [self._result(one, views[0]) for one, views in zip(found, prepared, strict=True)]

    def _result(self, found: InstancePredictions, image: PreparedImage) -> Detections:
        result = instances_to_detections(found, image.original_size, class_names(self.model))
        return result if self.score_threshold is None else result.above(self.score_threshold)
