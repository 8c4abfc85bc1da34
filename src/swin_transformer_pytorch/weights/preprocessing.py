"""How an image becomes the tensor that a set of weights was trained for: `Preprocessing`, a record without code.

Imports no torch. `data.transforms` carries it out; checkpoints and the catalogue carry it around.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

Pair = tuple[int, int]
Interpolation = Literal["bicubic", "bilinear", "nearest"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PreprocessingError(ValueError):
    """A preprocessing that cannot be done. The message names the field, its value and the fix."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize, crop, scale to [0, 1], normalise: in that order.

    Attributes:
        image_size: pixels (height, width) of the result; an int means square.
        resize_size: an int: the shorter side is resized to it, then the centre `image_size` is cut out. A pair
            (height, width): both sides are resized to it, whatever the image's shape; it must equal `image_size`.
        interpolation: of the resize; always with antialiasing.
        mean: subtracted from each channel, on the scale [0, 1].
        std: each channel is then divided by it. Its length is the number of channels: 1 is grey, 3 is RGB; images
            with any other number of channels come as tensors.
    """

    image_size: Pair
    resize_size: int | Pair
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        image_size = _pair("image_size", self.image_size)
        object.__setattr__(self, "image_size", image_size)
        if isinstance(self.resize_size, int) and not isinstance(self.resize_size, bool):
            fix = f"use a whole number of at least the longer side of image_size={image_size}, or a pair"
            _require(self.resize_size >= max(image_size), "resize_size", self.resize_size, fix)
        else:
            object.__setattr__(self, "resize_size", _pair("resize_size", self.resize_size))
            fix = f"a pair resizes both sides without a crop, so it must equal image_size={image_size}"
            _require(self.resize_size == image_size, "resize_size", self.resize_size, fix)
        fix = f"use one of {', '.join(get_args(Interpolation))}"
        _require(self.interpolation in get_args(Interpolation), "interpolation", self.interpolation, fix)
        for name in ("mean", "std"):
            object.__setattr__(self, name, _floats(name, getattr(self, name)))
        fix = f"give one number for each channel, as many as mean={self.mean} has"
        _require(len(self.std) == len(self.mean), "std", self.std, fix)
        _require(all(value > 0 for value in self.std), "std", self.std, "use numbers above 0")

    @property
    def channels(self) -> int:
        """Channels of the image: 1 is grey, 3 is RGB."""
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as they travel in a checkpoint; `from_dict` reads them back."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Reads what `to_dict` wrote. An unknown or missing field is a `PreprocessingError` that lists them."""
        fields = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in values if name not in fields]
        missing = [name for name in ("image_size", "resize_size") if name not in values]
        if unknown or missing:
            wrong = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(
                missing
            )
            raise PreprocessingError(f"preprocessing has other fields ({'; '.join(wrong)}); it has {', '.join(fields)}")
        return cls(**dict(values))

    @classmethod
    def imagenet(
        cls,
        image_size: int | Pair = 224,
        resize_size: int | Pair | None = None,
        interpolation: Interpolation = "bicubic",
    ) -> Preprocessing:
        """ImageNet's mean and deviation; where no `resize_size` is given, the official rule (224 is cut from 256)."""
        size = _pair("image_size", image_size)
        return cls(
            image_size=size,
            resize_size=int(256 / 224 * max(size)) if resize_size is None else resize_size,
            interpolation=interpolation,
        )


def _require(condition: bool, name: str, value: object, fix: str) -> None:
    if not condition:
        raise PreprocessingError(f"preprocessing: {name}={value!r} is not possible: {fix}")


def _pair(name: str, value: Any) -> Pair:
    pair = (value, value) if isinstance(value, int) else value
    ok = isinstance(pair, list | tuple) and len(pair) == 2
    ok = ok and all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in pair)
    _require(ok, name, value, "use a positive whole number of pixels, or two of them (height, width)")
    return cast(Pair, tuple(pair))


def _floats(name: str, value: Any) -> tuple[float, ...]:
    ok = isinstance(value, list | tuple) and len(value) > 0
    ok = ok and all(isinstance(number, int | float) and math.isfinite(number) for number in value)
    _require(ok, name, value, "give one finite number for each channel")
    return tuple(float(number) for number in value)
