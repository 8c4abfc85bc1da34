"""Images to the objects in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.images.dense_transforms import DenseTransform, PreparedImage, as_byte_array
from ..data.images.pixels import ImageInput
from ..data.transforms import create_transform
from ..models.detection import InstancePredictions
from ..models.detection_inference import check_has_parts, detect, detect_multi_scale
from ..models.detection_results import instances_to_detections
from ..results import Detections
from ..sizes import Size
from .task import Mode, check_class_layers, check_windows, class_names, views_of, windows_of
from .tiles import Tile, merge_tiles, tiles_of

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Sizes of multi-scale detection, as parts of the model's own. The authors published none; these are ours."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TiledImage:
    """An image that is looked at tile by tile, (height, width, channels), and its tiles."""

    pixels: NDArray[np.uint8]
    tiles: list[Tile]


class DetectionTask:
    """Finds the objects of each image, in the image's own pixels. See `PredictionTask`.

    Args:
        model: a detector.
        score_threshold: least score of what is given; None for all that the model gives.
        mode: "whole" resizes an image as the preprocessing says and looks at it at once. "slide" takes overlapping
            tiles of it for images, so that small objects of large images keep their detail; see `merge_tiles`. An image
            that one tile holds gets the answer of "whole".
        crop_size: (height, width) of a tile, in the image's pixels; None for a square with the shorter side that the
            preprocessing resizes to, or 512 where it does not.
        stride: (height, width) from a tile to the next; None for two thirds of a tile. What tiles share is where the
            parts of an object are known as one: at a stride as large as the tile each keeps its own.
        multi_scale: whether to look at each image at each of `SCALES`.
        flip: whether to look at its mirror image too.

    Raises:
        ValueError: "slide" is asked for together with other views, or a stride beyond the tile.
        DetectionError: several views are asked of an exported file.
    """

    batch_size = 4

    def __init__(
        self,
        model: Any,
        *,
        score_threshold: float | None,
        mode: Mode,
        crop_size: Size | None,
        stride: Size | None,
        multi_scale: bool,
        flip: bool,
    ) -> None:
        check_windows(mode, crop_size, stride, several_views=multi_scale or flip)
        self.model = model
        self.score_threshold = score_threshold
        self.mode = mode
        self.flip = flip
        self.ratios = SCALES if multi_scale else (1.0,)
        check_class_layers(model)
        if multi_scale or flip:
            check_has_parts(model)
        self.transform: DenseTransform = create_transform(model)
        self.crop_size, self.stride = windows_of(self.transform.preprocessing, crop_size, stride)

    def prepare(self, image: ImageInput) -> list[PreparedImage] | TiledImage:
        """One image -> its views, resized and normalised but not padded; or itself and its tiles."""
        if self.mode == "whole":
            return views_of(image, self.transform, self.ratios)
        preprocessing = self.transform.preprocessing
        pixels = as_byte_array(image, preprocessing.channels, preprocessing.white_level)
        return TiledImage(pixels=pixels, tiles=tiles_of(pixels.shape[:2], self.crop_size, self.stride))

    def predict(self, prepared: Sequence[Any]) -> list[Detections]:
        """See `detect`, `detect_multi_scale` and `merge_tiles`."""
        if self.mode == "slide":
            return [self._tiled(image) for image in prepared]
        if self.flip or len(self.ratios) > 1:
            found = [
                detect_multi_scale(
                    self.model, [view.pixels for view in views], [view.scale_factor for view in views], flip=self.flip
                )
                for views in prepared
            ]
            return [self._result(one, views[0]) for one, views in zip(found, prepared, strict=True)]
        return self._detect([views[0] for views in prepared])

    def _tiled(self, image: TiledImage) -> Detections:
        found: list[Detections] = []
        for start in range(0, len(image.tiles), self.batch_size):
            tiles = image.tiles[start : start + self.batch_size]
            found += self._detect([self.transform(tile.of(image.pixels)) for tile in tiles])
        height, width = image.pixels.shape[:2]
        return merge_tiles(found, image.tiles, (height, width))

    def _detect(self, images: Sequence[PreparedImage]) -> list[Detections]:
        found = detect(self.model, [image.pixels for image in images], [image.scale_factor for image in images])
        return [self._result(one, image) for one, image in zip(found, images, strict=True)]

    def _result(self, found: InstancePredictions, image: PreparedImage) -> Detections:
        result = instances_to_detections(found, image.original_size, class_names(self.model))
        return result if self.score_threshold is None else result.above(self.score_threshold)
