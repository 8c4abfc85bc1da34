"""What the predictor needs of each task: to prepare one image, and to answer for a few."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..data.images.dense_transforms import DenseTransform, PreparedImage, as_byte_array
from ..data.images.pixels import ImageInput
from ..models.named_classes import NamedClasses
from ..models.segmentation_inference import preprocessing_at_ratio
from ..results import Classification, Detections, SegmentationMap

AnyImage: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8] | Tensor
Prediction: TypeAlias = Classification | Detections | SegmentationMap


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
