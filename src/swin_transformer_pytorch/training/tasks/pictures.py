"""What a trained model says of validation images, beside the truth, as one picture."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ...data.images.pixels import as_picture
from ...data.images.unusable import Samples, item_or_problem
from ...data.samples import DetectionSample, SegmentationSample
from ...data.transforms import create_transform
from ...models.detection_inference import detect
from ...models.detection_results import instances_to_detections
from ...models.segmentation_inference import segment
from ...results import Classification, SegmentationMap
from ...visualize import detection_overlay, picture_grid, prediction_grid, segmentation_overlay

if TYPE_CHECKING:
    from ...models.build import Model

VALIDATION = "validation.png"
_CLASSIFIED, _SHOWN = 28, 6
_LEAST_SCORE = 0.5


@torch.no_grad()
def draw_validation(model: Model, samples: Samples[Any], path: Path) -> None:
    """Saves what a model in evaluation mode makes of some images spread over a data set.

    A classifier's are a grid with the likeliest class of each; others have a row an image, the truth at the left.
    Images that cannot be used are passed over; without any there is no picture.
    """
    count = min(len(samples), _CLASSIFIED if model.task == "classification" else _SHOWN)
    drawn = (item_or_problem(partial(samples.__getitem__, index * len(samples) // count)) for index in range(count))
    usable = [sample for sample in drawn if not isinstance(sample, str)]
    if not usable:
        return
    if model.task == "classification":
        results = [_classified(model, image) for image, _ in usable]
        targets = [label for _, label in usable]
        prediction_grid([as_picture(image) for image, _ in usable], results, targets, path, classes=model.classes)
        return
    draw = _detected if model.task == "detection" else _segmented
    pictures = [picture for sample in usable for picture in draw(model, sample)]
    titles = ["truth", f"model{f', scores from {_LEAST_SCORE}' * (model.task == 'detection')}"] * len(usable)
    picture_grid(pictures, path, titles=titles, columns=2)


def _classified(model: Any, image: Image.Image | torch.Tensor) -> Classification:
    scores = model(create_transform(model)(image).unsqueeze(0))[0].float().softmax(-1)
    label = int(scores.argmax())
    return Classification(labels=(label,), scores=(float(scores[label]),), names=(model.classes[label],))


def _detected(model: Any, sample: DetectionSample) -> tuple[Image.Image, Image.Image]:
    image = create_transform(model)(np.asarray(sample.image))
    (found,) = detect(model, [image.pixels], [image.scale_factor])
    result = instances_to_detections(found, image.original_size, model.classes).above(_LEAST_SCORE)
    return detection_overlay(sample.image, sample.detections(model.classes)), detection_overlay(sample.image, result)


def _segmented(model: Any, sample: SegmentationSample) -> tuple[Image.Image, Image.Image]:
    image = create_transform(model)(np.asarray(sample.image))
    (found,) = segment(model, [image.pixels], [image.original_size])
    truth, result = (
        SegmentationMap(labels=labels, names=model.classes, palette=model.palette)
        for labels in (sample.labels, found.cpu().numpy())
    )
    return segmentation_overlay(sample.image, truth), segmentation_overlay(sample.image, result)
