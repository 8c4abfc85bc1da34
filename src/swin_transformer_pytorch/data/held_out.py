"""Which of a data set's images are set apart for validation, where it has no part of its own for that."""

from __future__ import annotations

import numpy as np

from .errors import DataError


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
    apart = max(1, round(count * val_fraction)) if val_fraction > 0 else 0
    if count < 2 * (apart > 0) or (apart == 0 and split == "val"):
        raise DataError(
            f"{of} has {count} images and data.val_fraction={val_fraction}, which leaves none for {split!r}; {fix}"
        )
    order = np.random.default_rng(seed).permutation(count)
    return sorted((order[:apart] if split == "val" else order[apart:]).tolist())
