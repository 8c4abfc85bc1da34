"""Images filled up to a size, before they are normalised."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from ...sizes import Size

GREY = 128
"""What detectron2's recipes fill images up with."""


def filled(image: UInt8[np.ndarray, "_h _w C"], size: Size, value: int = GREY) -> UInt8[np.ndarray, "H W C"]:
    """An image no larger than `size` (height, width), with `value` at its right and below it."""
    height, width = (side - own for side, own in zip(size, image.shape, strict=False))
    return np.pad(image, ((0, height), (0, width), (0, 0)), constant_values=value)
