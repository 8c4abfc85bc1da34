"""How well a model of masked pre-training foretells what is hidden."""

from __future__ import annotations

from dataclasses import dataclass

from .report import Report


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedReport(Report):
    """How a model of masked pre-training did on a data set.

    Attributes:
        loss: mean distance of the hidden pixels from their target, in its unit: of the image in deviations of its
            normalisation, of a normalised target in deviations of the surroundings.
        num_images: how many were evaluated.
        skipped: for each image that could not be read, what is wrong with it.
    """

    loss: float
    num_images: int
    skipped: tuple[str, ...] = ()
