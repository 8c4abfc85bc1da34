"""One image with its objects, or with the class of each pixel, as data sets give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from ..results import Detections
from ..rle import encode_mask
from .images.pixels import as_picture, height_width


@dataclass(frozen=True, kw_only=True)
class DetectionSample:
    """An image and its objects, crowds among them.

    Attributes:
        image: RGB or grey, upright, of H x W pixels; of files of bands a tensor (C, H, W), see `read_pixels`.
        image_id: its number in the data set.
        boxes_xyxy: corners in pixels of the image.
        labels: class indices from 0.
        masks: 0 or 1 for each pixel.
        crowd: whether it is a group of objects under one mask, which training leaves out and evaluation ignores.
        semantic: the label of each pixel, 255 to ignore; None where there is no such map.
    """

    image: Image.Image | Tensor
    image_id: int
    boxes_xyxy: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    masks: UInt8[np.ndarray, "n H W"]
    crowd: Bool[np.ndarray, " n"]
    semantic: UInt8[np.ndarray, "H W"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def picture(self) -> Image.Image:
        """The image to look at, see `as_picture`."""
        return as_picture(self.image)

    def detections(self, classes: Sequence[str]) -> Detections:
        """Its objects as a result, to be drawn, with scores of 1; `classes` are the names by label."""
        return Detections(
            boxes_xyxy=self.boxes_xyxy,
            scores=np.ones(len(self), dtype=np.float32),
            labels=self.labels,
            names=tuple(classes[label] for label in self.labels),
            image_size=height_width(self.image),
            mask_rles=tuple(encode_mask(mask) for mask in self.masks),
        )


@dataclass(frozen=True, kw_only=True)
class SegmentationSample:
    """An image and the class of each of its pixels.

    Attributes:
        image: RGB or grey, upright, of H x W pixels; of files of bands a tensor (C, H, W), see `read_pixels`.
        labels: class indices from 0; 255 counts neither in training nor in evaluation.
        name: the image's path below its folder, without its ending.
    """

    image: Image.Image | Tensor
    labels: UInt8[np.ndarray, "H W"]
    name: str

    @property
    def picture(self) -> Image.Image:
        """The image to look at, see `as_picture`."""
        return as_picture(self.image)


def spread(count: int, most: int) -> list[int]:
    """At most so many places, rising, spread over a data set of so many items."""
    return sorted({index * count // most for index in range(most)} if count else ())


def image_of(sample: Any) -> Image.Image | Tensor:
    """The image of an item of any task's data set."""
    image: Image.Image | Tensor = sample[0] if isinstance(sample, tuple) else sample.image
    return image
