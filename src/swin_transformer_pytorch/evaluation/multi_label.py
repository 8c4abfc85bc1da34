"""Average precision and F1 of a classifier whose images may have any number of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from .report import EvaluationError, Report, told_apart


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiLabelReport(Report):
    """How a classifier with several labels an image did on a data set.

    Attributes:
        mean_ap: mean average precision of the classes that some image has, in [0, 1] (macro mAP).
        f1: mean F1 of these classes, where probabilities from 0.5 count as found.
        num_scored: how many classes that is.
        ap: class name -> its average precision; None of a class that no image has. Names that several classes share get
            their index.
        class_f1: likewise F1.
        positives: class name -> images that have it.
        classes: class names by index.
        num_images: how many were evaluated.
        skipped: for each image that could not be read, what is wrong with it.
    """

    mean_ap: float
    f1: float
    num_scored: int
    ap: dict[str, float | None]
    class_f1: dict[str, float | None]
    positives: dict[str, int]
    classes: tuple[str, ...]
    num_images: int
    skipped: tuple[str, ...] = ()


class MultiLabelCounts:
    """Collects logits and labels, batch by batch.

    Attributes:
        batches: of each, both, on the CPU.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.batches: list[tuple[Float[Tensor, "B classes"], Bool[Tensor, "B classes"]]] = []

    @property
    def num_images(self) -> int:
        """How many images were counted."""
        return sum(len(labels) for _, labels in self.batches)

    def add(self, logits: Float[Tensor, "B classes"], labels: Integer[Tensor, "B ..."]) -> None:
        """Takes a batch; labels are 0 or 1 a class.

        Raises:
            EvaluationError: there are not as many labels as classes.
        """
        if labels.shape != logits.shape or logits.shape[1] != self.num_classes:
            raise EvaluationError(
                f"the labels are {tuple(labels.shape)} and the model gives {tuple(logits.shape)}, for "
                f"{self.num_classes} classes: a model of several labels an image takes 0 or 1 for each class"
            )
        self.batches.append((logits.cpu(), labels.cpu() > 0))

    def report(self, classes: Sequence[str], *, skipped: Sequence[str] = ()) -> MultiLabelReport:
        """The figures, with the names of the classes; `skipped` is passed on.

        Raises:
            EvaluationError: no image has a class.
        """
        scores, truth = (torch.cat(parts).numpy() for parts in zip(*self.batches, strict=True))
        positives = truth.sum(axis=0)
        if not (scored := positives > 0).any():
            raise EvaluationError(f"none of the {len(truth)} images has a label, so there is nothing to measure")
        ap = [average_precision(scores[:, column], truth[:, column]) for column in range(self.num_classes)]
        # A probability of 0.5 is a logit of 0.
        found = scores >= 0
        f1 = 2 * (found & truth).sum(axis=0) / np.maximum(found.sum(axis=0) + positives, 1)
        names = told_apart(classes)

        def by_class(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float | None]:
            return {name: float(one) if has else None for name, one, has in zip(names, values, scored, strict=True)}

        return MultiLabelReport(
            mean_ap=float(np.mean(np.array(ap)[scored])),
            f1=float(f1[scored].mean()),
            num_scored=int(scored.sum()),
            ap=by_class(ap),
            class_f1=by_class(f1),
            positives=dict(zip(names, positives.tolist(), strict=True)),
            classes=tuple(classes),
            num_images=len(truth),
            skipped=tuple(skipped),
        )


def average_precision(scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """The area under precision by recall in steps, as scikit-learn has it; equal scores are one step. NaN of no hit."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(truth[order])
    last = np.append(scores[1:] != scores[:-1], True)  # of those of a score
    seen, hits = np.flatnonzero(last) + 1, hits[last]
    return float((np.diff(hits, prepend=0) * hits / seen).sum() / hits[-1]) if hits[-1] else float("nan")
