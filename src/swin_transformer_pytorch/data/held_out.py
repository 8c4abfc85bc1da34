"""The parts of a data set: what tools call them, and which images are set apart where there is none for validation."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..checks import plural
from .errors import DataError

Split = Literal["train", "val", "test"]

PART_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""What tools call the parts of a data set."""


def part_name(text: str) -> str:
    """Which of the parts a tool's name, such as "Train" or "valid", stands for; "all" for any other."""
    return next((part for part, names in PART_NAMES.items() if text.lower() in names), "all")


def part_of(count: int, split: str, *, of: object, val_fraction: float, seed: int, fix: str) -> list[int]:
    """The places, rising, of the images set apart or of all others; at least one image each.

    They depend on `seed` and on the number of images.

    Args:
        count: how many images there are.
        split: "val" for what is set apart, any other for the rest.
        of: what messages call the data.
        val_fraction: the share that is set apart; 0 for none.
        seed: of the choice.
        fix: what the message of an error advises.

    Raises:
        DataError: a part would have no image.
    """
    apart = min(max(round(count * val_fraction), 1), count - 1) if val_fraction > 0 else 0
    if count < 2 * (val_fraction > 0) or (apart == 0 and split == "val"):
        raise DataError(
            f"{of} has {plural(count, 'image')} and data.val_fraction={val_fraction}, which leaves none for {split!r}; "
            f"{fix}"
        )
    order = np.random.default_rng(seed).permutation(count)
    return sorted((order[:apart] if split == "val" else order[apart:]).tolist())
