"""What evaluation asks of a panoptic Mask2Former: segments, objects and classes, of one look at each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..models.exported import ExportedMask2Former
from ..models.mask2former import Mask2Former
from .mask2former import EveryAnswer, Mask2FormerTask
from .predictor import Predictor
from .task import AnyImage


class EveryAnswerPredictor:
    """Prepares images as a `Predictor` does, and gives an `EveryAnswer` where that gives segments alone.

    Args:
        predictor: of a panoptic Mask2Former.

    Attributes:
        batch_size: the predictor's.

    Raises:
        ValueError: it is of another model.
    """

    def __init__(self, predictor: Predictor) -> None:
        model = predictor.model
        if not (isinstance(model, Mask2Former | ExportedMask2Former) and model.task == "panoptic"):
            raise ValueError(
                f"a {type(model).__name__} for {getattr(model, 'task', None)} has one kind of answer; give a "
                "Mask2Former with answers='panoptic'"
            )
        self.batch_size = predictor.batch_size
        self._predictor = predictor
        self._model = model
        self._task = Mask2FormerTask(model, score_threshold=None)

    def prepare(self, image: AnyImage) -> Any:
        """See `Predictor.prepare`."""
        return self._predictor.prepare(image)

    @torch.inference_mode()
    def predict_prepared(self, prepared: Sequence[Any]) -> Sequence[EveryAnswer]:
        """The answers for images that `prepare` gave."""
        self._model.eval()
        return self._task.every_answer(prepared)
