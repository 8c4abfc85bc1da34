"""Results as the API gives them, pictures included, and the images that the page offers to try."""

from __future__ import annotations

import base64
import functools
import io
from typing import Any

from PIL import Image

from ..data.classification.fashion import FashionSample
from ..data.scenes.dataset import open_scenes
from ..predict import Prediction, Predictor
from ..results import Detections, PanopticSegmentation, SegmentationMap
from ..results.panoptic import ids_as_colours
from ..visualize import class_colour, label_map, overlay, palette_of
from ..visualize.panoptic import segment_colours

_NUM_SAMPLES = 6


def drawn(image: bytes, result: Prediction, predictor: Predictor) -> dict[str, Any]:
    """The fields of an answer that `picture=true` adds."""
    fields: dict[str, Any] = {"picture": _base64(overlay(predictor.picture(image), result))}
    if isinstance(result, Detections):
        fields["colours"] = [class_colour(label) for label in result.labels.tolist()]
    elif isinstance(result, SegmentationMap):
        palette = palette_of(result)
        fields["colours"] = [palette[label] for label in result.shares]
        fields["label_map"] = _base64(label_map(result))
    elif isinstance(result, PanopticSegmentation):
        fields["colours"] = segment_colours(result, palette_of(result))
        fields["segment_ids"] = _base64(Image.fromarray(ids_as_colours(result.segment_ids)))
    return fields


@functools.cache
def samples() -> dict[str, bytes]:
    """PNGs by name: "fashion-N" to classify, "scene-N" for the other tasks. No shipped model has seen them."""
    items, scenes = FashionSample("test"), open_scenes("scenes_sample", "val", num_scenes=_NUM_SAMPLES)
    images = {f"fashion-{number + 1}": items[number][0] for number in range(_NUM_SAMPLES)}
    images |= {f"scene-{number + 1}": scenes[number].picture for number in range(_NUM_SAMPLES)}
    return {name: _png(image) for name, image in images.items()}


def _base64(picture: Image.Image) -> str:
    return base64.b64encode(_png(picture)).decode("ascii")


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=1)  # the usual 6 takes five times as long for a photo
    return file.getvalue()
