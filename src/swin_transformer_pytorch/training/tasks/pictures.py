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
from ...models.classification import probabilities
from ...models.detection_inference import detect
from ...models.detection_results import instances_to_detections
from ...models.segmentation_inference import segment
from ...results import Classification, SegmentationMap
from ...visualize import detection_overlay, label_grid, picture_grid, prediction_grid, segmentation_overlay

if TYPE_CHECKING:
    from ...models.build import Model

VALIDATION = "validation.png"
_CLASSIFIED, _SHOWN = 28, 6
_LEAST_SCORE = 0.5
_SHOWN_SCORE = 0.3  # of objects, as `swin predict` shows them


@torch.no_grad()
def draw_validation(model: Model, samples: Samples[Any], path: Path) -> None:
    """Saves what a model in evaluation mode makes of some images spread over a data set.

    A classifier's are a grid with the likeliest class of each, or those from 0.5 where it may have several; others have
    a row an image, the truth at the left.
    Images that cannot be used are passed over; without any there is no picture.
    """
    count = min(len(samples), _CLASSIFIED if model.task == "classification" else _SHOWN)
    drawn = (item_or_problem(partial(samples.__getitem__, index * len(samples) // count)) for index in range(count))
    usable = [sample for sample in drawn if not isinstance(sample, str)]
    if not usable:
        return
    if model.task == "classification":
        _draw_classified(model, usable, path)
        return
    draw = _detected if model.task == "detection" else _segmented
    pictures = [picture for sample in usable for picture in draw(model, sample)]
    titles = ["truth", f"model{f', scores from {_SHOWN_SCORE}' * (model.task == 'detection')}"] * len(usable)
    picture_grid(pictures, path, titles=titles, columns=2)


def _draw_classified(model: Any, samples: list[tuple[Image.Image | torch.Tensor, Any]], path: Path) -> None:
    images, truths, names = [as_picture(image) for image, _ in samples], [truth for _, truth in samples], model.classes
    transform = create_transform(model)
    scores = [probabilities(model, model(transform(image).unsqueeze(0)))[0].tolist() for image, _ in samples]
    if model.multi_label:
        found = [[name for name, score in zip(names, one, strict=True) if score >= _LEAST_SCORE] for one in scores]
        label_grid(images, found, [[names[label] for label in np.flatnonzero(truth)] for truth in truths], path)
        return
    best = [max(enumerate(one), key=lambda pair: pair[1]) for one in scores]
    results = [Classification(labels=(label,), scores=(score,), names=(names[label],)) for label, score in best]
    prediction_grid(images, results, truths, path, classes=names)


def _detected(model: Any, sample: DetectionSample) -> tuple[Image.Image, Image.Image]:
    image = create_transform(model)(sample.image)
    (found,) = detect(model, [image.pixels], [image.scale_factor])
    result = instances_to_detections(found, image.original_size, model.classes).above(_SHOWN_SCORE)
    truth = detection_overlay(sample.picture, sample.detections(model.classes), scores=False)
    return truth, detection_overlay(sample.picture, result)


def _segmented(model: Any, sample: SegmentationSample) -> tuple[Image.Image, Image.Image]:
    image = create_transform(model)(sample.image)
    (found,) = segment(model, [image.pixels], [image.original_size])
    truth, result = (
        SegmentationMap(labels=labels, names=model.classes, palette=model.palette)
        for labels in (sample.labels, found.cpu().numpy())
    )
    return segmentation_overlay(sample.picture, truth), segmentation_overlay(sample.picture, result)
