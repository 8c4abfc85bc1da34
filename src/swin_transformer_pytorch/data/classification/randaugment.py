"""RandAugment (arXiv 1909.13719) as the official recipe uses it: timm's increasing set of operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageOps

from ...ops.cpu import resample
from ..images.opened import as_image
from .augmentation import RandAugmentPolicy

_FULL = 10.0


Picture: TypeAlias = Image.Image | UInt8[np.ndarray, "H W C"]
"""8-bit pixels: a PIL image of mode "RGB" or "L", or an array of colours, which takes less time to move."""

Matrix: TypeAlias = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What geometric operations need beyond the image: the filter, and the colour that uncovered pixels take."""

    resample: Image.Resampling
    fill: tuple[int, ...]

    def affine(self, image: Picture, matrix: Matrix) -> Picture:
        """As PIL's `transform`: the pixel at (x, y) of the result comes from (ax + by + c, dx + ey + f)."""
        fast = self.resample == Image.Resampling.BICUBIC and resample.why_not() is None
        if fast and isinstance(image, np.ndarray) and image.shape[2] == 3:
            return resample.affine(image, matrix, self.fill)
        image, colour = as_image(image), self.fill[0] if len(self.fill) == 1 else self.fill
        return image.transform(image.size, Image.Transform.AFFINE, matrix, self.resample, fillcolor=colour)

    def rotate(self, image: Picture, degrees: float) -> Picture:
        """As PIL's `rotate`, about the centre and against the clock, by less than a right angle."""
        if degrees == 0:
            return image
        angle, (width, height) = -math.radians(degrees % 360.0), _size(image)
        cos, sin, x, y = round(math.cos(angle), 15), round(math.sin(angle), 15), width / 2, height / 2
        return self.affine(image, (cos, sin, cos * -x + sin * -y + 0.0 + x, -sin, cos, -sin * -x + cos * -y + 0.0 + y))


def _size(image: Picture) -> tuple[int, int]:
    """(width, height)."""
    return (image.shape[1], image.shape[0]) if isinstance(image, np.ndarray) else image.size


class RandAugment:
    """Applies `policy.num_ops` operations drawn from the 15 of `OPERATIONS`, each with `policy.probability`.

    Each draw has its own strength: the policy's magnitude with normal noise, kept in [0, 10]; at every operation a
    higher one changes the image more. This is timm's "rand-...-inc1", which torchvision's RandAugment is not: that
    has no noise, an identity instead of invert and solarize-add, and other ranges. Randomness comes from torch's
    global CPU generator.
    """

    def __init__(self, policy: RandAugmentPolicy, *, fill: tuple[int, ...], resample: Image.Resampling) -> None:
        self.policy = policy
        self.canvas = Canvas(resample=resample, fill=fill)

    def __call__(self, image: Picture) -> Picture:
        """The image changed, of the same size; of an array the result may be either form."""
        as_arrays = isinstance(image, np.ndarray)
        for index in torch.randint(len(OPERATIONS), (self.policy.num_ops,)).tolist():
            chance, sign = torch.rand(2).tolist()
            noise = torch.randn(()).item() * self.policy.magnitude_std
            if chance < self.policy.probability:
                strength = min(max(self.policy.magnitude + noise, 0.0), _FULL) / _FULL
                name = NAMES[index]
                if name not in GEOMETRIC:
                    image = as_image(image)
                elif as_arrays and isinstance(image, Image.Image) and image.mode == "RGB":
                    image = np.asarray(image)
                image = OPERATIONS[name](image, strength, -1.0 if sign < 0.5 else 1.0, self.canvas)
        return image


# (image, strength in [0, 1], -1 or 1, canvas) -> image. Those of colour take a PIL image, of mode "RGB" or "L".
Operation = Callable[[Any, float, float, Canvas], Picture]


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    def operation(image: Image.Image, strength: float, sign: float, canvas: Canvas) -> Image.Image:
        return kind(image).enhance(max(0.1, 1.0 + sign * 0.9 * strength))

    return operation


def _solarize_add(image: Image.Image, strength: float, sign: float, canvas: Canvas) -> Image.Image:
    added = min(128, int(110 * strength))
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


OPERATIONS: dict[str, Operation] = {
    "autocontrast": lambda image, strength, sign, canvas: ImageOps.autocontrast(image),
    "equalize": lambda image, strength, sign, canvas: ImageOps.equalize(image),
    "invert": lambda image, strength, sign, canvas: ImageOps.invert(image),
    "rotate": lambda image, strength, sign, canvas: canvas.rotate(image, sign * 30 * strength),
    "posterize": lambda image, strength, sign, canvas: _posterize(image, 4 - int(4 * strength)),
    "solarize": lambda image, strength, sign, canvas: ImageOps.solarize(image, 256 - min(256, int(256 * strength))),
    "solarize_add": _solarize_add,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": lambda image, strength, sign, canvas: canvas.affine(image, (1, sign * 0.3 * strength, 0, 0, 1, 0)),
    "shear_y": lambda image, strength, sign, canvas: canvas.affine(image, (1, 0, 0, sign * 0.3 * strength, 1, 0)),
    "translate_x": lambda image, strength, sign, canvas: canvas.affine(
        image, (1, 0, sign * 0.45 * strength * _size(image)[0], 0, 1, 0)
    ),
    "translate_y": lambda image, strength, sign, canvas: canvas.affine(
        image, (1, 0, 0, 0, 1, sign * 0.45 * strength * _size(image)[1])
    ),
}
NAMES = tuple(OPERATIONS)
GEOMETRIC = frozenset({"rotate", "shear_x", "shear_y", "translate_x", "translate_y"})


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    # PIL's own takes 1 to 8 bits; the full strength keeps none, which is black.
    return ImageOps.posterize(image, bits) if bits >= 1 else image.point([0] * 256 * len(image.getbands()))
