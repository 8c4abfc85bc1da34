"""How a model of a dense task learns and answers, where models of one task differ in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from ....data.images.dense_transforms import PreparedImage
from ....data.mask_batches import MaskBatch
from ....models.mask2former import Mask2Former
from ....models.query_masks import QueryMasks, query_masks

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)


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


def queries_of(model: Mask2Former, images: Sequence[PreparedImage]) -> list[QueryMasks]:
    """What a Mask2Former in evaluation mode gives for prepared images, each at its original size."""
    return query_masks(model, [image.pixels for image in images], [image.original_size for image in images])


def tell_queries(counts: Sequence[int], num_queries: int, total: int, *, what: str) -> None:
    """Logs how many of the images that were looked at, of `total`, have more targets than a model has queries.

    Args:
        counts: targets of each of these images.
        num_queries: the model's.
        total: training images.
        what: the targets' name, such as "segments".
    """
    if more := sum(count > num_queries for count in counts):
        _log.warning(
            "%s of %s training images%s have more %s, up to %s, than the model's %d queries: those beyond are not "
            "learnt, but where a crop leaves others out; the published large models have 200 queries",
            f"{more:,}",
            f"{len(counts):,}",
            f" (looked at, of {total:,})" * (len(counts) < total),
            what,
            f"{max(counts):,}",
            num_queries,
        )
