"""From a detector's tensors to what a user gets: boxes, scores, names, and masks as run lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ops.regions.instances import InstancePredictions
from ..ops.regions.masks import paste_masks
from ..results import Detections
from ..rle import encode_mask

_PASTED_PIXELS = 1 << 26
"""So many pixels of masks (bytes) are laid out at once: all masks of a large photo would take gigabytes."""


def instances_to_detections(
    predictions: InstancePredictions, image_size: tuple[int, int], names: Sequence[str] | None
) -> Detections:
    """Lays the masks on the image and names the objects.

    Args:
        predictions: of one image, in its own pixels.
        image_size: (height, width) of the image.
        names: class names by index; None names them "class 0", ...

    Returns:
        The same objects in the same order, on the CPU. A mask is where its probability is at least 0.5.
    """
    height, width = image_size
    count = max(1, _PASTED_PIXELS // max(1, height * width))
    rles: list[bytes] = []
    for start in range(0, len(predictions), count):
        part = slice(start, start + count)
        # The copy on the CPU is the smaller one before the masks are laid out.
        boxes, masks = predictions.boxes_xyxy[part].cpu().float(), predictions.masks[part].cpu().float()
        rles += [encode_mask(mask) for mask in paste_masks(masks, boxes, image_size).numpy()]
    labels = predictions.labels.tolist()
    return Detections(
        boxes_xyxy=predictions.boxes_xyxy.float().cpu().numpy(),
        scores=predictions.scores.float().cpu().numpy(),
        labels=np.array(labels, dtype=np.int64),
        names=tuple(f"class {label}" if names is None else names[label] for label in labels),
        image_size=image_size,
        mask_rles=tuple(rles),
    )
