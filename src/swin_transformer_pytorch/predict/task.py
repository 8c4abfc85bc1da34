"""What the predictor needs of each task: to prepare one image, and to answer for a few."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..data.images.dense_transforms import DenseTransform, PreparedImage, as_byte_array
from ..data.images.pixels import ImageInput
from ..models.named_classes import NamedClasses
from ..models.segmentation_inference import preprocessing_at_ratio
from ..results import Classification, Detections, PanopticSegmentation, SegmentationMap
from ..sizes import Size
from ..weights.preprocessing import DensePreprocessing

AnyImage: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8] | Tensor
Prediction: TypeAlias = Classification | Detections | SegmentationMap | PanopticSegmentation
Mode = Literal["whole", "slide"]

_USUAL_CROP = 512


class PredictionTask(Protocol):
    """How a model of one task is used.

    Attributes:
        transform: its preprocessing.
        batch_size: images at once where nobody says how many.
    """

    transform: Any
    batch_size: int

    def prepare(self, image: ImageInput) -> Any:
        """One image, read where it was a file -> what `predict` takes. An `ImageError` says why it cannot be done."""

    def predict(self, prepared: Sequence[Any]) -> Sequence[Prediction]:
        """The prepared images' results, each as the image gets it alone. The model is in evaluation mode."""


def class_names(model: nn.Module) -> Sequence[str] | None:
    """The model's class names, or None."""
    names: Sequence[str] | None = getattr(model, "classes", None)
    return names


def check_class_layers(model: nn.Module) -> None:
    """Refuses a dense model of ours whose last layers were exchanged for ones of other classes."""
    if isinstance(model, NamedClasses):
        model.check_class_layers()


def name_of(names: Sequence[str] | None, label: int) -> str:
    """A class's name, or "class 123" where there are none."""
    return names[label] if names is not None else f"class {label}"


def views_of(image: ImageInput, transform: DenseTransform, ratios: Sequence[float]) -> list[PreparedImage]:
    """One image, prepared at each ratio of the preprocessing's size."""
    array = as_byte_array(image, transform.preprocessing.channels, transform.preprocessing.white_level)
    if tuple(ratios) == (1.0,):
        return [transform(array)]
    size = (array.shape[0], array.shape[1])
    return [DenseTransform(preprocessing_at_ratio(transform.preprocessing, ratio, size))(array) for ratio in ratios]


def check_windows(mode: str, crop_size: Size | None, stride: Size | None, *, several_views: bool) -> None:
    """Refuses what is no mode, and windows that do not go with it."""
    if mode not in get_args(Mode):
        raise ValueError(f"mode={mode!r} is not known: use 'whole' or 'slide'")
    if mode == "slide" and several_views:
        raise ValueError("mode='slide' has one view; leave multi_scale and flip out, or use mode='whole'")
    if mode == "whole" and (crop_size is not None or stride is not None):
        raise ValueError(f"crop_size={crop_size} and stride={stride} are for windows; add mode='slide'")
    for name, pair in (("crop_size", crop_size), ("stride", stride)):
        if pair is not None and min(pair) < 1:
            raise ValueError(f"{name}={pair} is not possible: use whole numbers of at least 1")


def windows_of(preprocessing: DensePreprocessing, crop_size: Size | None, stride: Size | None) -> tuple[Size, Size]:
    """(height, width) of a window and from one to the next: as given, else a square of the shorter side that images are
    resized to, 512 where they are not, and two thirds of it.

    Raises:
        ValueError: the stride leaves gaps.
    """
    side = _USUAL_CROP if preprocessing.scale is None else preprocessing.scale[1]
    crop = crop_size or (side, side)
    if stride is not None and (stride[0] > crop[0] or stride[1] > crop[1]):
        raise ValueError(f"stride={stride} leaves gaps between windows of {crop}; use at most crop_size")
    return crop, stride or (max(1, crop[0] * 2 // 3), max(1, crop[1] * 2 // 3))
