"""One image with its objects, or with the class of each pixel, as data sets give it."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8
from PIL import Image
from torch import Tensor

from ..colours import Colour
from ..results import Detections, PanopticSegmentation, Segment
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


@dataclass(frozen=True, kw_only=True)
class PanopticSample:
    """An image and its segments, no two of which overlap, crowds among them.

    Attributes:
        image: RGB or grey, upright, of H x W pixels; of files of bands a tensor (C, H, W), see `read_pixels`.
        image_id: its number in the data set, or the text that stands for it.
        segment_ids: which segment each pixel is of, from 1 in the order of `labels`; 0 for pixels of none, void.
        labels: class indices from 0.
        crowd: whether it is a group of objects under one mask, which training leaves out and evaluation ignores.
    """

    image: Image.Image | Tensor
    image_id: int | str
    segment_ids: Int32[np.ndarray, "H W"]
    labels: Int64[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def picture(self) -> Image.Image:
        """The image to look at, see `as_picture`."""
        return as_picture(self.image)

    @property
    def masks(self) -> Bool[np.ndarray, "n H W"]:
        """The pixels of each segment, made anew at each look."""
        return self.segment_ids == np.arange(1, len(self) + 1, dtype=np.int32)[:, None, None]

    def segmentation(
        self, classes: Sequence[str], things: Collection[int], palette: Sequence[Colour] | None = None
    ) -> PanopticSegmentation:
        """Its segments as a result, to be drawn, with scores of 1; `classes` are the names by label, `things` the
        labels of those of things."""
        areas = np.bincount(self.segment_ids.ravel(), minlength=len(self) + 1)[1:]
        return PanopticSegmentation(
            segment_ids=self.segment_ids,
            segments=tuple(
                Segment(id=number, label=label, score=1.0, area=area, is_thing=label in things)
                for number, (label, area) in enumerate(zip(self.labels.tolist(), areas.tolist(), strict=True), start=1)
            ),
            names=tuple(classes),
            palette=None if palette is None else tuple(palette),
        )


def spread(samples: Sized, most: int) -> list[int]:
    """At most so many places, rising, spread over a data set; of shards in a store the first, as few come then."""
    count = len(samples)
    if getattr(samples, "ahead", None) is not None:
        return [*range(min(count, most))]
    return sorted({index * count // most for index in range(most)} if count else ())


def image_of(sample: Any) -> Image.Image | Tensor:
    """The image of an item of any task's data set."""
    image: Image.Image | Tensor = sample[0] if isinstance(sample, tuple) else sample.image
    return image
