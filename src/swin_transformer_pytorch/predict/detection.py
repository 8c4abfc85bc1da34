"""Images to the objects in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data.images.dense_transforms import DenseTransform, PreparedImage, pad_batch, padded_size
from ..data.transforms import create_transform
from ..models.detection import InstancePredictions
from ..models.detection_inference import detect_multi_scale
from ..models.detection_results import instances_to_detections
from ..results import Detections
from .task import AnyImage, class_names, group_by_size, model_input, views_of

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Sizes of multi-scale detection, as parts of the model's own. The authors published none; these are ours."""


class DetectionTask:
    """Finds the objects of each image, in the image's own pixels. See `PredictionTask`.

    Args:
        model: a detector.
        score_threshold: least score of what is given; None for all that the model gives.
        multi_scale: whether to look at each image at each of `SCALES`.
        flip: whether to look at its mirror image too.
    """

    batch_size = 4

    def __init__(self, model: Any, *, score_threshold: float | None, multi_scale: bool, flip: bool) -> None:
        self.model = model
        self.score_threshold = score_threshold
        self.flip = flip
        self.ratios = SCALES if multi_scale else (1.0,)
        self.transform: DenseTransform = create_transform(model)

    def prepare(self, image: AnyImage) -> list[PreparedImage]:
        """One image in any form -> its views, resized and normalised but not padded."""
        return views_of(image, self.transform, self.ratios)

    def predict(self, prepared: Sequence[list[PreparedImage]]) -> list[Detections]:
        """Only images that are padded to the same size share a batch: more padding would change their maps."""
        divisor = self.transform.preprocessing.size_divisor
        results: dict[int, Detections] = {}
        if self.flip or len(self.ratios) > 1:
            for place, views in enumerate(prepared):
                pixels = [model_input(self.model, view.pixels) for view in views]
                factors = [view.scale_factor for view in views]
                found = detect_multi_scale(self.model, pixels, factors, flip=self.flip)
                results[place] = self._result(found, views[0])
            return [results[place] for place in range(len(prepared))]
        for places in group_by_size([padded_size(views[0].image_size, divisor) for views in prepared]):
            images = [prepared[place][0] for place in places]
            found_in_each = self.model(
                model_input(self.model, pad_batch([image.pixels for image in images], divisor)),
                [image.image_size for image in images],
                [image.scale_factor for image in images],
            )
            for place, image, found in zip(places, images, found_in_each, strict=True):
                results[place] = self._result(found, image)
        return [results[place] for place in range(len(prepared))]

    def _result(self, found: InstancePredictions, image: PreparedImage) -> Detections:
        result = instances_to_detections(found, image.original_size, class_names(self.model))
        return result if self.score_threshold is None else result.above(self.score_threshold)
