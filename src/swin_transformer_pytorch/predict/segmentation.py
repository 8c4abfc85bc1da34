"""Images to a class for each pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..data.images.dense_transforms import DenseTransform, PreparedImage, as_byte_array
from ..data.images.pixels import ImageInput
from ..data.transforms import create_transform
from ..models.segmentation_inference import RATIOS, segment, segment_multi_scale, segment_sliding
from ..results import SegmentationMap
from .task import Mode, check_class_layers, check_windows, class_names, name_of, views_of, windows_of


class SegmentationTask:
    """Names the class of each pixel of an image, at the image's own size. See `PredictionTask`.

    Args:
        model: a segmenter.
        mode: "whole" resizes an image as the preprocessing says and looks at it at once. "slide" looks through
            overlapping windows and never shrinks an image, so that large ones keep their detail; smaller ones than
            the preprocessing asks for are enlarged as for "whole".
        crop_size: (height, width) of a window, in pixels; None for a square with the shorter side that the
            preprocessing resizes to, or 512 where it does not.
        stride: (height, width) from a window to the next; None for two thirds of a window.
        multi_scale: whether to look at each image at each of the published ratios (`RATIOS`).
        flip: whether to look at its mirror image too.

    Raises:
        ValueError: there is no such mode, or "slide" is asked for together with other views.
    """

    batch_size = 4

    def __init__(
        self,
        model: Any,
        *,
        mode: Mode,
        crop_size: tuple[int, int] | None,
        stride: tuple[int, int] | None,
        multi_scale: bool,
        flip: bool,
    ) -> None:
        check_windows(mode, crop_size, stride, several_views=multi_scale or flip)
        self.model = model
        self.mode = mode
        self.flip = flip
        self.ratios = RATIOS if multi_scale else (1.0,)
        check_class_layers(model)
        self.transform: DenseTransform = create_transform(model)
        self.crop_size, self.stride = windows_of(self.transform.preprocessing, crop_size, stride)

    def prepare(self, image: ImageInput) -> list[PreparedImage]:
        """One image -> its views, resized and normalised."""
        if self.mode == "whole":
            return views_of(image, self.transform, self.ratios)
        preprocessing = self.transform.preprocessing
        array = as_byte_array(image, preprocessing.channels, preprocessing.white_level)
        size = (array.shape[0], array.shape[1])
        shrinks = sum(preprocessing.resized(size)) < sum(size)
        kept = DenseTransform(dataclasses.replace(preprocessing, scale=None)) if shrinks else self.transform
        return [kept(array)]

    def predict(self, prepared: Sequence[list[PreparedImage]]) -> list[SegmentationMap]:
        """See `models.segmentation_inference`."""
        if self.mode == "slide":
            labels = [
                segment_sliding(self.model, view.pixels, self.crop_size, self.stride, view.original_size)
                for (view,) in prepared
            ]
        elif self.flip or len(self.ratios) > 1:
            labels = [
                segment_multi_scale(self.model, [view.pixels for view in views], views[0].original_size, flip=self.flip)
                for views in prepared
            ]
        else:
            images = [views[0] for views in prepared]
            labels = segment(self.model, [image.pixels for image in images], [image.original_size for image in images])
        return [self._result(one) for one in labels]

    def _result(self, labels: Tensor) -> SegmentationMap:
        known = class_names(self.model)
        names = tuple(name_of(known, label) for label in range(self.model.num_classes))
        return SegmentationMap(labels=labels.cpu().numpy(), names=names, palette=getattr(self.model, "palette", None))
