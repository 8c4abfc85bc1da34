"""Scenes as COCO's annotations describe them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...rle import encode_mask
from ..samples import DetectionSample


def empty_document(classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """The annotations of no scene yet."""
    categories = [{"id": label + 1, "name": name, "supercategory": "item"} for label, name in enumerate(classes)]
    about = f"Scenes of Fashion-MNIST items (arXiv 1708.07747), seed {seed}"
    return {"info": {"description": about}, "images": [], "annotations": [], "categories": categories}


def describe(sample: DetectionSample, document: dict[str, Any]) -> None:
    """Adds a scene to the annotations. Their ids count from 1: pycocotools takes 0 for "none"."""
    width, height = sample.picture.size
    document["images"].append(
        {"id": sample.image_id, "file_name": file_name(sample.image_id), "width": width, "height": height}
    )
    for box, label, mask in zip(sample.boxes_xyxy.tolist(), sample.labels.tolist(), sample.masks, strict=True):
        x0, y0, x1, y1 = box
        document["annotations"].append(
            {
                "id": len(document["annotations"]) + 1,
                "image_id": sample.image_id,
                "category_id": label + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(np.count_nonzero(mask)),
                "iscrowd": 0,
                "segmentation": {"size": [height, width], "counts": encode_mask(mask).decode("ascii")},
            }
        )


def file_name(index: int) -> str:
    """The name of a scene's picture and label map."""
    return f"{index:06d}.png"
