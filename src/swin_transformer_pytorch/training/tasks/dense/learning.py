"""How a model of a dense task learns and answers, where models of one task differ in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from ....data.images.dense_transforms import PreparedImage
from ....data.mask_batches import MaskBatch
from ....models.mask2former import Mask2Former

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Learning(Generic[Answer]):
    """What a task does with one kind of model.

    Attributes:
        collate: from training images with what is known of them, as the task's transform gives them, to a batch.
        losses: of a model and such a batch, by name.
        answers: of a model in evaluation mode, for prepared images, each at its original size.
        main_metric: by which its best checkpoint is chosen; None for the task's own.
    """

    collate: Callable[[list[Any]], Any]
    losses: Callable[[Any, Any], dict[str, Tensor]]
    answers: Callable[[Any, Sequence[PreparedImage]], list[Answer]]
    main_metric: str | None = None


def mask_losses(model: Mask2Former, batch: MaskBatch) -> dict[str, Tensor]:
    """A Mask2Former's, whatever it answers."""
    return model.losses(batch.images, batch.targets)
