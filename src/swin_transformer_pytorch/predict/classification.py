"""Images to their likeliest classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.images.opened import OpenedImage
from ..data.images.pixels import ImageInput
from ..data.transforms import create_transform
from ..models.classification import probabilities
from ..models.inputs import model_input
from ..results import Classification
from .task import class_names, name_of

_PRESENT = 0.5  # the least score of a class that an image has, where it may have several


class ClassificationTask:
    """Names the `top_k` likeliest classes of each image, whether it may have one or several. See `PredictionTask`."""

    batch_size = 32

    def __init__(self, model: nn.Module, *, top_k: int) -> None:
        self.model = model
        self.top_k = top_k
        self.transform = create_transform(model)

    def prepare(self, image: ImageInput | OpenedImage) -> Tensor:
        """One image -> the model's input, (C, h, w)."""
        prepared: Tensor = self.transform(image)
        return prepared

    def features(self, prepared: Sequence[Tensor]) -> NDArray[np.float32]:
        """What the head takes of each image, (B, C).

        Raises:
            ValueError: the model does not say what its head takes, as exported files do not.
        """
        model: Any = self.model
        if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
            raise ValueError(
                f"this {type(model).__name__} gives answers alone, not its features; give the model it was made of"
            )
        maps = model.forward_features(self._batch(prepared))
        found: NDArray[np.float32] = model.forward_head(maps, pre_logits=True).float().cpu().numpy()
        return found

    def _batch(self, prepared: Sequence[Tensor]) -> Tensor:
        """All images in one batch: they have one size."""
        return model_input(self.model, torch.stack(list(prepared)))

    def predict(self, prepared: Sequence[Tensor]) -> list[Classification]:
        """The likeliest classes of each."""
        logits = self.model(self._batch(prepared))
        count = getattr(self.model, "num_classes", logits.shape[-1])
        if logits.shape[-1] != count:
            raise ValueError(
                f"the model's head gives {logits.shape[-1]} numbers an image, and the model is of {count} classes: "
                f"call model.reset_classifier({logits.shape[-1]}, classes=...), and put a head of your own in after it"
            )
        sure = probabilities(self.model, logits)
        scores, labels = sure.topk(min(self.top_k, logits.shape[-1]))
        several = getattr(self.model, "multi_label", False)
        return [
            Classification(
                labels=tuple(best),
                scores=tuple(values),
                names=self._names(best),
                present=self._names(_present(of_all)) if several else None,
            )
            for best, values, of_all in zip(labels.tolist(), scores.tolist(), sure, strict=True)
        ]

    def _names(self, labels: Sequence[int]) -> tuple[str, ...]:
        names = class_names(self.model)
        return tuple(name_of(names, label) for label in labels)


def _present(scores: Tensor) -> list[int]:
    """Of the scores (classes,) of one image which are high enough, the highest first."""
    order: list[int] = scores.argsort(descending=True, stable=True)[: int((scores >= _PRESENT).sum())].tolist()
    return order
