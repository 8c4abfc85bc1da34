"""Random changes of an image's colours on 8 bits, those of SSD (arXiv 1512.02325), as the official code makes them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8

from .chance import below, coin, uniform
from .hsv import NUM_HUES, hsv_to_rgb, rgb_to_hsv

_MAX_BRIGHTNESS = 32.0
_CONTRAST = _SATURATION = (0.5, 1.5)
_MAX_HUE = 18


def distort(image: UInt8[np.ndarray, "H W C"], generator: torch.Generator) -> UInt8[np.ndarray, "H W C"]:
    """Changes brightness, contrast, saturation and hue of an image, each with probability 0.5; the latter two of RGB.

    Contrast comes second or last, as chance has it. After each change values are cut off at 0 and 255 and their
    fractions are dropped; a hue is shifted by one of -18 to 17 steps of two degrees. See `hsv` for how near the
    conversions are to OpenCV's.
    """
    if coin(generator):
        image = _linear(image, 1.0, uniform(-_MAX_BRIGHTNESS, _MAX_BRIGHTNESS, generator))
    contrast_first = coin(generator)
    if contrast_first and coin(generator):
        image = _linear(image, uniform(*_CONTRAST, generator), 0.0)
    coloured = image.shape[2] == 3
    if coloured and coin(generator):
        image = change_saturation(image, uniform(*_SATURATION, generator))
    if coloured and coin(generator):
        image = shift_hue(image, below(2 * _MAX_HUE, generator) - _MAX_HUE)
    if not contrast_first and coin(generator):
        image = _linear(image, uniform(*_CONTRAST, generator), 0.0)
    return image


def change_saturation(image: UInt8[np.ndarray, "H W 3"], factor: float) -> UInt8[np.ndarray, "H W 3"]:
    """Multiplies each pixel's saturation, in HSV of 8 bits."""
    hsv = rgb_to_hsv(image)
    hsv[..., 1] = _linear(hsv[..., 1], factor, 0.0)
    return hsv_to_rgb(hsv)


def shift_hue(image: UInt8[np.ndarray, "H W 3"], steps: int) -> UInt8[np.ndarray, "H W 3"]:
    """Turns each pixel's hue by so many steps of two degrees, in HSV of 8 bits."""
    hsv = rgb_to_hsv(image)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + steps) % NUM_HUES
    return hsv_to_rgb(hsv)


def _linear(values: UInt8[np.ndarray, "*shape"], factor: float, offset: float) -> UInt8[np.ndarray, "*shape"]:
    """Each value times a factor plus an offset, in 32 bits; cut off at 0 and 255, fractions dropped."""
    levels = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(offset)
    return np.clip(levels, 0, 255).astype(np.uint8)[values]
