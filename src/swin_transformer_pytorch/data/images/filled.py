"""Images filled up to a size, before they are normalised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...sizes import Size

GREY = 128
"""What detectron2's recipes fill images up with."""


def filled(image: NDArray[Any], size: Size, value: int = GREY) -> NDArray[Any]:
    """An image (h, w, C), or a map of two axes, no larger than `size`, with `value` at its right and below it."""
    height, width = (side - own for side, own in zip(size, image.shape, strict=False))
    return np.pad(image, ((0, height), (0, width), (0, 0))[: image.ndim], constant_values=value)
