"""`create_transform`: the preprocessing that belongs to a model's weights, whatever its task."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload, runtime_checkable

from torch import nn

from ..weights.preprocessing import DensePreprocessing, Preprocessing
from .classification.augmentation import Augmentation
from .classification.transforms import EvaluationTransform, TrainingTransform
from .detection.augmentation import DetectionAugmentation
from .detection.transforms import DetectionTrainingTransform
from .images.dense_transforms import DenseTransform
from .segmentation.augmentation import SegmentationAugmentation
from .segmentation.transforms import SegmentationTrainingTransform


@runtime_checkable
class HasPreprocessing(Protocol):
    """A model, or anything else, that knows what its weights expect of an image."""

    preprocessing: Preprocessing | DensePreprocessing | None


Augment: TypeAlias = Augmentation | DetectionAugmentation | SegmentationAugmentation
Transform: TypeAlias = (
    EvaluationTransform
    | TrainingTransform
    | DenseTransform
    | DetectionTrainingTransform
    | SegmentationTrainingTransform
)


@overload
def create_transform(
    model: Preprocessing, train: Literal[False] = False, augment: None = None
) -> EvaluationTransform: ...
@overload
def create_transform(
    model: Preprocessing, train: Literal[True], augment: Augmentation | None = None
) -> TrainingTransform: ...
@overload
def create_transform(
    model: DensePreprocessing, train: Literal[False] = False, augment: None = None
) -> DenseTransform: ...
@overload
def create_transform(
    model: DensePreprocessing, train: Literal[True], augment: DetectionAugmentation
) -> DetectionTrainingTransform: ...
@overload
def create_transform(
    model: DensePreprocessing, train: Literal[True], augment: SegmentationAugmentation
) -> SegmentationTrainingTransform: ...
@overload
def create_transform(model: nn.Module, train: bool = False, augment: Augment | None = None) -> Any: ...
def create_transform(
    model: nn.Module | Preprocessing | DensePreprocessing, train: bool = False, augment: Augment | None = None
) -> Transform:
    """The preprocessing that belongs to a model's weights.

    Args:
        model: a model with `.preprocessing`, or a `Preprocessing` or `DensePreprocessing`.
        train: whether to make the random changes of training.
        augment: which of them; None for those of the official recipe of the model's task. Only for `train=True`. With
            a bare `DensePreprocessing` it also says which task is meant, so there it must be given.

    Returns:
        For a classifier a callable: PIL image, uint8 array (H, W), (H, W, C) or tensor (C, H, W), or float tensor
        (C, H, W) in [0, 1] -> float tensor (C, h, w) as the model takes it, h and w being `preprocessing.image_size`.
        For a detector or segmenter, a `DenseTransform`: any of these, or a file -> `PreparedImage`; for training a
        `DetectionTrainingTransform` or `SegmentationTrainingTransform`: (sample, generator) -> (image, targets).

    Raises:
        ValueError: the model has no preprocessing, or `augment` is given for evaluation, or is another task's.
    """
    preprocessing = find_preprocessing(model) if isinstance(model, nn.Module) else model
    if not train and augment is not None:
        raise ValueError(f"augment={augment!r} is for training; pass train=True, or leave it out")
    if not train:
        if isinstance(preprocessing, DensePreprocessing):
            return DenseTransform(preprocessing)
        return EvaluationTransform(preprocessing)
    if isinstance(preprocessing, Preprocessing):
        return TrainingTransform(preprocessing, _augmentation_of(Augmentation, augment, "classification"))
    task = getattr(model, "task", None)
    if task == "detection" or (task is None and isinstance(augment, DetectionAugmentation)):
        chosen = _augmentation_of(DetectionAugmentation, augment, "detection")
        return DetectionTrainingTransform(preprocessing, chosen)
    if task == "segmentation" or (task is None and isinstance(augment, SegmentationAugmentation)):
        return SegmentationTrainingTransform(
            preprocessing, _augmentation_of(SegmentationAugmentation, augment, "segmentation")
        )
    raise ValueError(
        "a DensePreprocessing does not say for which task it trains; give the model itself, or "
        "augment=DetectionAugmentation() or SegmentationAugmentation()"
    )


def find_preprocessing(model: nn.Module) -> Preprocessing | DensePreprocessing:
    """The model's preprocessing, or a `ValueError` that tells how to give it one."""
    preprocessing = model.preprocessing if isinstance(model, HasPreprocessing) else None
    if preprocessing is None:
        usual = {"detection": "DensePreprocessing.coco()", "segmentation": "DensePreprocessing.ade20k()"}
        example = usual.get(getattr(model, "task", ""), "Preprocessing.imagenet(224)")
        raise ValueError(
            f"this {type(model).__name__} does not say how its images are prepared; set model.preprocessing = "
            f"{example}, or another one (swin_transformer_pytorch.weights.preprocessing)"
        )
    return preprocessing


_Chosen = TypeVar("_Chosen", Augmentation, DetectionAugmentation, SegmentationAugmentation)


def _augmentation_of(kind: type[_Chosen], augment: object, task: str) -> _Chosen:
    if augment is None:
        return kind()
    if not isinstance(augment, kind):
        raise ValueError(f"augment={augment!r} is not for {task}; give {kind.__name__}(...), or leave it out")
    return augment
