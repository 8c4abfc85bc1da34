"""From the answers of a Mask2Former as tensors to what a user gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer
from torch import Tensor

from ..colours import Colour
from ..results import Detections, PanopticSegmentation, Segment
from ..rle import encode_mask
from ..sizes import Size
from .exported import ExportedMask2Former
from .mask2former import Mask2Former
from .panoptic_inference import MaskedInstances, PanopticSegments, instances, panoptic, semantic, semantic_of_views
from .query_masks import QueryMasks, query_masks


def segments_of(
    model: Mask2Former | ExportedMask2Former, image: QueryMasks, names: Sequence[str]
) -> PanopticSegmentation:
    """An image's segments by the model's own rules, things and colours; `names` are the classes' by index."""
    config = model.config
    found = panoptic(
        image,
        config.thing_classes,
        least_probability=config.segment_threshold,
        least_share=config.overlap_threshold,
        policy=config.policy,
    )
    return segments_to_panoptic(found, names, model.palette)


def objects_of(model: Mask2Former | ExportedMask2Former, image: QueryMasks, names: Sequence[str] | None) -> Detections:
    """An image's objects by the model's own rules; of panoptic answers those of its things."""
    config = model.config
    found = instances(image, config.thing_classes, max_detections=config.max_detections, policy=config.policy)
    return masks_to_detections(found, names)


def label_map_of(model: Mask2Former | ExportedMask2Former, image: QueryMasks) -> Integer[Tensor, "H W"]:
    """Each pixel's class by the model's own rules."""
    return semantic(image, resized=_resized(model), policy=model.config.policy)


def label_map_of_views(
    model: Mask2Former | ExportedMask2Former,
    views: Sequence[Float[Tensor, "C _h _w"]],
    output_size: Size,
    *,
    flip: bool = True,
) -> Integer[Tensor, "H W"]:
    """Each pixel's class by the model's own rules, from several sizes of one image, each also mirrored if `flip`.

    The sums that decide are averaged at the original image's size.

    Args:
        views: the image, preprocessed at each ratio, not padded.
        output_size: (height, width) of the original image.

    Raises:
        MaskInferenceError: the model is in training mode.
    """
    mirrored = [False, True] if flip else [False]
    # One by one, as images of different sizes are taken in any case.
    looks = [
        query_masks(model, [view.flip(2) if is_mirrored else view], [output_size])[0]
        for view in views
        for is_mirrored in mirrored
    ]
    return semantic_of_views(looks, mirrored * len(views), resized=_resized(model), policy=model.config.policy)


def _resized(model: Mask2Former | ExportedMask2Former) -> Literal["scores", "masks"]:
    """What is resized to the original size of sums over the queries."""
    return "scores" if model.config.answers == "semantic" else "masks"


def segments_to_panoptic(
    found: PanopticSegments, names: Sequence[str], palette: tuple[Colour, ...] | None = None
) -> PanopticSegmentation:
    """Names the segments, on the CPU.

    Args:
        found: of one image. Of segments that share an id, as transformers' rules give them, the first says what it is.
        names: all classes' names by index.
        palette: their colours, or None.
    """
    columns = (found.ids, found.labels, found.scores, found.areas, found.is_thing)
    segments: dict[int, Segment] = {}
    for number, label, score, area, is_thing in zip(*(column.tolist() for column in columns), strict=True):
        # A probability may be 1 and a rounding error.
        one = Segment(id=number, label=label, score=min(score, 1.0), area=area, is_thing=is_thing)
        segments.setdefault(number, one)
    return PanopticSegmentation(
        segment_ids=found.segment_ids.cpu().numpy(),
        segments=tuple(segments.values()),
        names=tuple(names),
        palette=palette,
    )


def masks_to_detections(found: MaskedInstances, names: Sequence[str] | None) -> Detections:
    """Names the objects, and makes run lengths of their masks, on the CPU. Objects without a pixel are left out.

    Args:
        found: of one image.
        names: class names by index; None names them "class 0", ...
    """
    masks = found.masks.cpu().numpy()
    kept = [index for index, mask in enumerate(masks) if mask.any()]
    labels = found.labels.cpu().numpy()[kept].astype(np.int64)
    height, width = masks.shape[1:]
    return Detections(
        boxes_xyxy=found.boxes_xyxy.cpu().numpy()[kept],
        scores=found.scores.clamp(max=1).cpu().numpy()[kept],
        labels=labels,
        names=tuple(f"class {label}" if names is None else names[label] for label in labels),
        image_size=(height, width),
        mask_rles=tuple(encode_mask(masks[index]) for index in kept),
    )
