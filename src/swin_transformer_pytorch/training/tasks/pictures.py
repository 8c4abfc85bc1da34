"""What a trained model says of validation images, beside the truth, as one picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ...data.images.masking import MaskRule
from ...data.images.pixels import as_picture
from ...data.images.unusable import Samples, item_or_problem
from ...data.samples import DetectionSample, PanopticSample, SegmentationSample
from ...data.transforms import create_transform
from ...models.classification import probabilities
from ...models.inputs import as_bytes
from ...models.mask_results import segments_of
from ...results import Classification, SegmentationMap
from ...visualize import (
    detection_overlay,
    label_grid,
    panoptic_overlay,
    picture_grid,
    prediction_grid,
    segmentation_overlay,
)
from ...visualize.pictures import readable
from ..recipes.segmentation import PixelLossRecipe
from .dense.learning import queries_of
from .detection.learning import learning_of as detector_learning
from .segmentation.learning import learning_of as segmenter_learning

if TYPE_CHECKING:
    from ...models.build import Model

VALIDATION = "validation.png"
_CLASSIFIED, _SHOWN = 28, 6
_LEAST_SCORE = 0.5
_HIDDEN_GREY = 128  # of bytes
_SHOWN_SCORE = 0.3  # of objects, as `swin predict` shows them


@torch.no_grad()
def draw_validation(model: Model, samples: Samples[Any], path: Path) -> None:
    """Saves what a model in evaluation mode makes of some images spread over a data set.

    A classifier's are a grid with the likeliest class of each, or those from 0.5 where it may have several; others have
    a row an image, the truth at the left; one of masked pre-training also what it saw of it, in the middle.
    Images that cannot be used are passed over; without any there is no picture.
    """
    count = min(len(samples), _CLASSIFIED if model.task == "classification" else _SHOWN)
    places = [index * len(samples) // count for index in range(count)]
    found = {place: item_or_problem(partial(samples.__getitem__, place)) for place in places}
    drawn: dict[int, Any] = {place: sample for place, sample in found.items() if not isinstance(sample, str)}
    usable = list(drawn.values())
    if not usable:
        return
    if model.task == "classification":
        _draw_classified(model, usable, path)
        return
    if model.task == "pretraining":
        _draw_masked(model, drawn, path)
        return
    drawers: dict[str, Callable[[Any, Any], tuple[Image.Image, Image.Image]]] = {
        "detection": _detected,
        "segmentation": _segmented,
        "panoptic": _panoptic,
    }
    draw = drawers[model.task]
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


def _draw_masked(model: Any, drawn: dict[int, tuple[Image.Image | torch.Tensor, Any]], path: Path) -> None:
    """With the masks that validation has of the images at these places."""
    transform, config, preprocessing = create_transform(model), model.config, model.preprocessing
    rule = MaskRule.of(config, preprocessing.image_size)
    pictures: list[Image.Image] = []
    for place, (image, _) in drawn.items():
        pixels = transform(image).unsqueeze(0)
        mask = rule.fixed(place).unsqueeze(0)
        hidden = model.hidden_pixels(mask, pixels)[0]
        shown, found = (
            as_bytes(each, preprocessing)[0].permute(2, 0, 1) for each in (pixels, model.reconstruct(pixels, mask))
        )
        seen = torch.where(hidden, torch.full_like(shown, _HIDDEN_GREY), shown)
        pictures += [readable(as_picture(each), shortest=224, longest=480)[0] for each in (shown, seen, found)]
    undone = ", its local mean and contrast from the image" if config.target_window is not None else ""
    picture_grid(pictures, path, titles=["image", "what the model saw", f"model{undone}"] * len(drawn), columns=3)


def _detected(model: Any, sample: DetectionSample) -> tuple[Image.Image, Image.Image]:
    image = create_transform(model)(sample.image)
    (found,) = detector_learning(model).answers(model, [image])
    truth = detection_overlay(sample.picture, sample.detections(model.classes), scores=False)
    return truth, detection_overlay(sample.picture, found.above(_SHOWN_SCORE))


def _segmented(model: Any, sample: SegmentationSample) -> tuple[Image.Image, Image.Image]:
    image = create_transform(model)(sample.image)
    (found,) = segmenter_learning(model, PixelLossRecipe()).answers(model, [image])
    truth, result = (
        SegmentationMap(labels=labels, names=model.classes, palette=model.palette)
        for labels in (sample.labels, found.cpu().numpy())
    )
    return segmentation_overlay(sample.picture, truth), segmentation_overlay(sample.picture, result)


def _panoptic(model: Any, sample: PanopticSample) -> tuple[Image.Image, Image.Image]:
    image = create_transform(model)(sample.image)
    (found,) = queries_of(model, [image])
    truth = sample.segmentation(model.classes, model.config.thing_classes, model.palette)
    result = segments_of(model, found, model.classes)
    return panoptic_overlay(sample.picture, truth), panoptic_overlay(sample.picture, result)
