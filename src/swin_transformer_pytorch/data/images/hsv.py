"""8-bit RGB to hue, saturation and value and back, with OpenCV's numbers.

The way there is OpenCV's fixed-point rule, and gives every one of the 2**24 colours what `cv2.cvtColor` gives. The way
back is what it computes with vector instructions on a processor with fused multiply-add: floats of 32 bits, cut off
rather than rounded. It is equal for all 180 x 256 x 256 triples. The pixels at the end of a row that fill no vector
OpenCV rounds instead, so that there it may be one level above ours.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

NUM_HUES = 180
_SHIFT = 12
_HALF = 1 << (_SHIFT - 1)


def rgb_to_hsv(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Hue in 0 to 179 (two degrees a step), saturation and value in 0 to 255."""
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    span = value - np.minimum(np.minimum(red, green), blue)
    for_saturation, for_hue = _reciprocals()
    saturation = (span * for_saturation[value] + _HALF) >> _SHIFT
    hue = np.where(
        value == red,
        green - blue,
        np.where(value == green, blue - red + 2 * span, red - green + 4 * span),
    )
    hue = (hue * for_hue[span] + _HALF) >> _SHIFT
    hue = np.where(hue < 0, hue + NUM_HUES, hue)
    return np.stack([hue, saturation, value], axis=-1).astype(np.uint8)


def hsv_to_rgb(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The way back; a hue of 180 or more is not possible."""
    key = image[..., 0].astype(np.int32) * 256 + image[..., 1]
    result = _shares().take(key, axis=0)
    result *= _values()[image[..., 2]][..., None]
    result *= np.float32(255)
    return result.astype(np.uint8)


@functools.cache
def _reciprocals() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """255 / n and 30 / n in fixed point for n of 0 to 255; none for 0."""
    numbers = np.arange(1, 256)
    pair = [np.zeros(256, dtype=np.int32) for _ in range(2)]
    for table, full in zip(pair, (255, NUM_HUES / 6), strict=True):
        table[1:] = np.rint((full * (1 << _SHIFT)) / numbers)
    return pair[0], pair[1]


@functools.cache
def _values() -> NDArray[np.float32]:
    return np.arange(256, dtype=np.float32) * np.float32(1 / 255)


@functools.cache
def _shares() -> NDArray[np.float32]:
    """What share of the value is red, green and blue, for each hue and saturation: (180 * 256, 3).

    Within each sixth of the circle a share is 1 - saturation * x, where x is 0 for one channel, 1 for another, and
    rises or falls for the third.
    """
    place = np.arange(NUM_HUES, dtype=np.float32) * np.float32(6 / NUM_HUES)
    sixth = np.trunc(place)
    rising = place - sixth
    falling = np.float32(1) - rising
    zero, one = np.zeros_like(rising), np.ones_like(rising)
    red = np.choose(sixth.astype(np.int64), [zero, rising, one, one, falling, zero])
    green = np.choose(sixth.astype(np.int64), [falling, zero, zero, rising, one, one])
    blue = np.choose(sixth.astype(np.int64), [one, one, falling, zero, zero, rising])
    missing = np.stack([red, green, blue], axis=-1)[:, None]  # (180, 1, 3)
    saturation = _values()[:, None].astype(np.float64)
    # In 64 bits the product of two numbers of 32 is exact: this rounds once, as a fused multiply-add does.
    return (1 - saturation * missing).astype(np.float32).reshape(-1, 3)
