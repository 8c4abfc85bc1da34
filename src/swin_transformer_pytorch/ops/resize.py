"""Resizing 8-bit images and label maps with the very numbers of OpenCV, which the dense models were trained with.

OpenCV's bilinear filter on 8 bits is fixed-point: weights of 11 bits, a horizontal pass whose sums lose 4 bits, a
vertical pass that loses 16 and then rounds. A float filter differs by one level in about a tenth of all values, and a
filter with antialiasing, such as PIL's, by far more where images shrink. (The rule is that of `resize.cpp`, 8-bit
`INTER_LINEAR` and `INTER_NEAREST`, as it stands in OpenCV 4 and 5.)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int16, Int32, Int64, UInt8
from numpy.typing import NDArray

# Rows that are worked on at once: their 32-bit sums stay in a core's cache.
_CHUNK = 16


def resize_bilinear_uint8(image: UInt8[np.ndarray, "H W C"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w C"]:
    """The image at another size, bit for bit as `cv2.resize` gives it with `INTER_LINEAR`; without antialiasing.

    Args:
        image: 8-bit pixels, of any number of channels.
        size: (height, width) of the result.

    Raises:
        ValueError: either has no pixels.
    """
    height, width, channels = image.shape
    _require_pixels((height, width), size)
    if size == (height, width):
        return image.copy()
    left, to_right = _positions(width, size[1])
    # Horizontally the weight of a place beyond the edge falls away; vertically only the row is the edge's.
    inside = (left >= 0) & (left < width - 1)
    to_right = np.where(inside, to_right, np.float32(0))
    left = left.clip(0, width - 1)
    above, to_below = _positions(height, size[0])
    rows = np.stack([above, above + 1]).clip(0, height - 1)
    needed, places = np.unique(rows, return_inverse=True)
    places = places.reshape(rows.shape)
    source = image if len(needed) == height else image[needed]
    columns = np.stack([left, (left + 1).clip(0, width - 1)])[:, :, None] * channels + np.arange(channels)
    sums = _across(
        np.ascontiguousarray(source).reshape(len(needed), width * channels),
        columns.reshape(2, -1),
        _weights(to_right).repeat(channels, axis=1),
    )
    return _down(sums, places, _weights(to_below)).reshape(*size, channels)


def resize_nearest(labels: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.generic]:
    """Label maps or masks (..., H, W) at another size, as `cv2.resize` gives them with `INTER_NEAREST`.

    Of each new pixel it takes the top left corner, not the centre: floor(index * H / h).

    Raises:
        ValueError: there are no pixels.
    """
    height, width = labels.shape[-2:]
    _require_pixels((height, width), size)
    if size == (height, width):
        return labels.copy()
    rows, columns = _nearest(height, size[0]), _nearest(width, size[1])
    return labels.take(rows, axis=-2).take(columns, axis=-1)


def _require_pixels(old: tuple[int, int], new: tuple[int, int]) -> None:
    if min(*old, *new) < 1:
        raise ValueError(f"an image of {old} cannot become one of {new} (height, width): each side takes a pixel")


def _positions(old: int, new: int) -> tuple[Int64[np.ndarray, " new"], NDArray[np.float32]]:
    """For each new pixel: the old one before its centre (from -1), and how far beyond that one's centre it lies."""
    # The ratio is inverted twice, as in OpenCV: the last bit counts.
    scale = 1.0 / (new / old)
    place = ((np.arange(new, dtype=np.float64) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(place)
    return before.astype(np.int64), place - before


def _weights(fraction: NDArray[np.float32]) -> Int32[np.ndarray, "2 n"]:
    """Weights of 11 bits for the pixel before and the pixel after."""
    pair = np.stack([np.float32(1) - fraction, fraction])
    return np.rint(pair * np.float32(2048)).astype(np.int32)


def _across(
    rows: UInt8[np.ndarray, "H WC"], columns: Int64[np.ndarray, "2 wC"], weights: Int32[np.ndarray, "2 wC"]
) -> Int16[np.ndarray, "H wC"]:
    """The horizontal pass; its sums without their lowest 4 bits fit into 16."""
    result = np.empty((len(rows), columns.shape[1]), dtype=np.int16)
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        total = np.multiply(part.take(columns[0], axis=1), weights[0], dtype=np.int32)
        total += np.multiply(part.take(columns[1], axis=1), weights[1], dtype=np.int32)
        total >>= 4
        result[start : start + _CHUNK] = total
    return result


def _down(
    sums: Int16[np.ndarray, "H wC"], rows: Int64[np.ndarray, "2 h"], weights: Int32[np.ndarray, "2 h"]
) -> UInt8[np.ndarray, "h wC"]:
    """The vertical pass: each product loses 16 bits by itself, and what is left is rounded."""
    result = np.empty((rows.shape[1], sums.shape[1]), dtype=np.uint8)
    for start in range(0, rows.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        total = np.multiply(sums[rows[0, part]], weights[0, part, None], dtype=np.int32)
        total >>= 16
        below = np.multiply(sums[rows[1, part]], weights[1, part, None], dtype=np.int32)
        below >>= 16
        total += below
        total += 2
        total >>= 2
        # A weight pair may round to one more than 2048 together.
        np.minimum(total, 255, out=total)
        result[part] = total
    return result


def _nearest(old: int, new: int) -> Int64[np.ndarray, " new"]:
    scale = 1.0 / (new / old)
    place: Float64[np.ndarray, " new"] = np.floor(np.arange(new, dtype=np.float64) * scale)
    return place.astype(np.int64).clip(0, old - 1)
