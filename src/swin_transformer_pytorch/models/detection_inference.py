"""Detection in images of any sizes, and in one from several sizes of it: mmdet's test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..heads.roi_head import Extractors
from ..heads.rpn import scored_proposals
from ..ops.padding import group_by_size, pad_batch, padded_size
from .detection import Detector, InstancePredictions
from .exported import ExportedDetector
from .inputs import model_input
from .multi_scale import View, merge_detections, merge_masks, merge_proposals


class DetectionError(ValueError):
    """An inference that cannot be made. The message says why and the fix."""


def detect(
    model: Detector | ExportedDetector,
    images: Sequence[Float[Tensor, "C _ _"]],
    scale_factors: Sequence[Sequence[float]] | None = None,
) -> list[InstancePredictions]:
    """The objects of images of any sizes, each image's as it gets them alone.

    Only images that are padded to the same size share a batch: more padding would change their maps.

    Args:
        model: of any method, or an exported one, in evaluation mode.
        images: preprocessed and not padded: `prepared.pixels` of a `DenseTransform`.
        scale_factors: `prepared.scale_factor` of each; None where none was resized.

    Returns:
        The objects of each image, in the original image's pixels.

    Raises:
        DetectionError: the model is in training mode, or there is not one factor an image.
    """
    _check(model, len(images), len(images) if scale_factors is None else len(scale_factors))
    divisor = size_divisor(model)
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    found: dict[int, InstancePredictions] = {}
    for places in group_by_size([padded_size(size, divisor) for size in sizes]):
        batch = model_input(model, pad_batch([images[place] for place in places], divisor))
        factors = None if scale_factors is None else [scale_factors[place] for place in places]
        found |= dict(zip(places, model(batch, [sizes[place] for place in places], factors), strict=True))
    return [found[place] for place in range(len(images))]


def detect_multi_scale(
    model: Detector,
    images: Sequence[Float[Tensor, "C _ _"]],
    scale_factors: Sequence[tuple[float, float, float, float]],
    *,
    flip: bool = True,
) -> InstancePredictions:
    """The objects of one image from several sizes of it, each also mirrored if `flip`.

    One size without its mirror image gives exactly what the model gives. Otherwise the views' proposals, boxes, scores
    and masks are merged as `models.multi_scale` says. Every view's pyramid is in memory until the last step: with 256
    channels about 0.2 GB for a view of 1400 x 1600 pixels.

    Args:
        model: of any method, in evaluation mode.
        images: one image, preprocessed at each scale and not padded: `prepared.pixels` of a `DenseTransform` with
            `dataclasses.replace(model.preprocessing, scale=(longest, shortest))`.
        scale_factors: `prepared.scale_factor` of each.

    Returns:
        The objects, in the original image's pixels.

    Raises:
        DetectionError: the model is in training mode, or an exported file, whose parts cannot be called one by one;
            there is no image, or not one factor for each.
    """
    _check(model, len(images), len(scale_factors))
    check_has_parts(model)
    if not images:
        raise DetectionError("0 images and 0 scale factors; give the image at one scale or more, and a factor for each")
    views, inputs = [], []
    for one, factor in zip(images, scale_factors, strict=True):
        image = model_input(model, one)
        size = (image.shape[1], image.shape[2])
        for flipped in (False, True) if flip else (False,):
            views.append(View(image_size=size, scale_factor=factor, flipped=flipped))
            inputs.append(pad_batch([image.flip(2) if flipped else image], size_divisor(model)))
    if len(inputs) == 1:
        return model(inputs[0], [views[0].image_size], [views[0].scale_factor])[0]
    with torch.no_grad():
        return _merged(model, inputs, views)


def _merged(model: Detector, inputs: Sequence[Float[Tensor, "1 C _ _"]], views: Sequence[View]) -> InstancePredictions:
    head, rpn_rules = model.roi_head, model.rpn_head.rules
    limits, strides = rpn_rules.inference, rpn_rules.strides
    extractors: list[Extractors] = []
    proposals = []
    for pixels, view in zip(inputs, views, strict=True):
        features = model.extract(pixels)
        outputs = model.rpn_head(features)
        proposals += scored_proposals(outputs, [view.image_size], strides=strides, limits=limits)
        extractors.append(head.extractors(features))
    regions = merge_proposals(proposals, views, limits=limits)
    predictions = [
        head.forward_boxes(extract.boxes, [view.from_original(regions)], [view.image_size])[0]
        for extract, view in zip(extractors, views, strict=True)
    ]
    boxes, scores, labels = merge_detections(predictions, views, rules=head.rules)
    grids = [
        head.forward_masks(extract.masks, [view.from_original(boxes)], [labels])[0]
        for extract, view in zip(extractors, views, strict=True)
    ]
    return InstancePredictions(boxes_xyxy=boxes, scores=scores, labels=labels, masks=merge_masks(grids, views))


def _check(model: Detector | ExportedDetector, images: int, scale_factors: int) -> None:
    if model.training:
        raise DetectionError("the model is in training mode, where proposals and norms differ; call model.eval() first")
    if images != scale_factors:
        raise DetectionError(f"{images} images and {scale_factors} scale factors; give a factor for each image")


def check_has_parts(model: Detector | ExportedDetector) -> None:
    """That its proposals and boxes can be had apart, to be merged.

    Raises:
        DetectionError: it is an exported file.
    """
    if isinstance(model, ExportedDetector):
        raise DetectionError(
            f"{model.file.path} looks at an image once: leave multi_scale and flip out, or take the model that it was "
            "exported from"
        )


def size_divisor(model: Detector | ExportedDetector) -> int:
    """What sides of the model's images are padded to multiples of."""
    return 32 if model.preprocessing is None else model.preprocessing.size_divisor
