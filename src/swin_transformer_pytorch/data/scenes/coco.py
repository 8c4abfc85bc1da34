"""Scenes as COCO's annotations describe them, of objects and of segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...colours import Colour
from ...results.panoptic import segment_boxes
from ...rle import encode_mask
from ..samples import DetectionSample, PanopticSample


def empty_document(classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """The annotations of no scene yet."""
    categories = [{"id": label + 1, "name": name, "supercategory": "item"} for label, name in enumerate(classes)]
    return {"info": _about(seed), "images": [], "annotations": [], "categories": categories}


def empty_panoptic_document(classes: Sequence[str], palette: Sequence[Colour], *, seed: int) -> dict[str, Any]:
    """Likewise of segments; `classes` has the ground last, which is stuff."""
    categories = [
        {"id": label + 1, "name": name, "isthing": int(label < len(classes) - 1), "color": list(colour)}
        for label, (name, colour) in enumerate(zip(classes, palette, strict=True))
    ]
    return {"info": _about(seed), "images": [], "annotations": [], "categories": categories}


def describe(sample: DetectionSample, document: dict[str, Any]) -> None:
    """Adds a scene to the annotations. Their ids count from 1: pycocotools takes 0 for "none"."""
    width, height = sample.picture.size
    document["images"].append(_image(sample.image_id, width, height))
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


def describe_segments(sample: PanopticSample, document: dict[str, Any]) -> None:
    """Adds a scene to the annotations of segments."""
    assert isinstance(sample.image_id, int), "scenes are counted"
    height, width = sample.segment_ids.shape
    document["images"].append(_image(sample.image_id, width, height))
    ids = range(1, len(sample) + 1)
    areas = np.bincount(sample.segment_ids.ravel(), minlength=len(sample) + 1)[1:].tolist()
    boxes = segment_boxes(sample.segment_ids, ids)
    segments = [
        {"id": number, "category_id": label + 1, "area": area, "bbox": box, "iscrowd": 0}
        for number, label, area, box in zip(ids, sample.labels.tolist(), areas, boxes, strict=True)
    ]
    entry = {"image_id": sample.image_id, "file_name": file_name(sample.image_id), "segments_info": segments}
    document["annotations"].append(entry)


def file_name(index: int) -> str:
    """The name of a scene's picture, label map and PNG of segments."""
    return f"{index:06d}.png"


def _about(seed: int) -> dict[str, str]:
    return {"description": f"Scenes of Fashion-MNIST items (arXiv 1708.07747), seed {seed}"}


def _image(image_id: int, width: int, height: int) -> dict[str, Any]:
    return {"id": image_id, "file_name": file_name(image_id), "width": width, "height": height}
