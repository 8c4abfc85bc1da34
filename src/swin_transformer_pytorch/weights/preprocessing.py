"""How an image becomes the tensor that a set of weights was trained for: records without code.

`Preprocessing` is a classifier's, `DensePreprocessing` a detector's or segmenter's. Imports no torch. `data` carries
them out; checkpoints and the catalogue carry them around.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..checks import as_pair, is_count, is_pair, require
from ..sizes import Size

Interpolation = Literal["bicubic", "bilinear", "nearest"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# The same on the scale of the stored bytes, as the dense models' configurations round them.
IMAGENET_BYTE_MEAN = (123.675, 116.28, 103.53)
IMAGENET_BYTE_STD = (58.395, 57.12, 57.375)


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
            with any other number of channels come as files of bands or as tensors.
        white_level: the value of white in image files of 16 bits, such as 4095 where 12 are used; None for 65535.
    """

    image_size: Size
    resize_size: int | Size
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    white_level: int | None = None

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
        _normalise(self)

    @property
    def channels(self) -> int:
        """Channels of the image: 1 is grey, 3 is RGB."""
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as they travel in a checkpoint; `from_dict` reads them back."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Reads what `to_dict` wrote. An unknown or missing field is a `PreprocessingError` that lists them."""
        _check_fields(values, cls, required=("image_size", "resize_size"))
        return cls(**dict(values))

    @classmethod
    def imagenet(
        cls,
        image_size: int | Size = 224,
        resize_size: int | Size | None = None,
        interpolation: Interpolation = "bicubic",
    ) -> Preprocessing:
        """ImageNet's mean and deviation; where no `resize_size` is given, the official rule (224 is cut from 256)."""
        size = _pair("image_size", image_size)
        return cls(
            image_size=size,
            resize_size=int(256 / 224 * max(size)) if resize_size is None else resize_size,
            interpolation=interpolation,
        )


@dataclass(frozen=True, kw_only=True)
class DensePreprocessing:
    """Resize within limits, usually keeping the shape; normalise; pad at the right and the bottom: in that order.

    The resize is bilinear on the stored bytes: without antialiasing and with OpenCV's rounding, as the official
    detection and segmentation code does it, or as Pillow does it.

    Attributes:
        scale: pixels (most of the longer side, most of the shorter side). An image of sides h and w is scaled by
            `s = min(scale[0] / max(h, w), scale[1] / min(h, w))` to `int(side * s + 0.5)`, up or down. None: not at
            all.
        size_divisor: each side is padded with zeros to a multiple of it; 1 is no padding.
        squeeze: whether both sides are resized to `scale`, a square then, whatever the image's shape.
        antialias: whether the resize is Pillow's, which takes the mean of all pixels that a smaller image covers, as
            code on detectron2 does it. It and OpenCV's enlarge alike, but for a level of rounding.
        mean: subtracted from each channel, on the scale of the bytes, 0 to 255.
        std: each channel is then divided by it. Its length is the number of channels: 1 is grey, 3 is RGB; images
            with any other number of channels come as files of bands or as tensors.
        white_level: the value of white in image files of 16 bits, such as 4095 where 12 are used; None for 65535.
    """

    scale: Size | None = (1333, 800)
    size_divisor: int = 32
    squeeze: bool = False
    antialias: bool = False
    mean: tuple[float, ...] = IMAGENET_BYTE_MEAN
    std: tuple[float, ...] = IMAGENET_BYTE_STD
    white_level: int | None = None

    def __post_init__(self) -> None:
        if self.scale is not None:
            fix = "use two positive whole numbers of pixels (longer side, shorter side), or None for no resize"
            _require(is_pair(self.scale) and self.scale[0] >= self.scale[1], "scale", self.scale, fix)
            object.__setattr__(self, "scale", tuple(self.scale))
        divisor = self.size_divisor
        _require(is_count(divisor), "size_divisor", divisor, "use a whole number of at least 1")
        for name in ("squeeze", "antialias"):
            _require(isinstance(getattr(self, name), bool), name, getattr(self, name), "use true or false")
        square = self.scale is not None and self.scale[0] == self.scale[1]
        fix = f"use true with a square scale alone, not scale={self.scale}"
        _require(square or not self.squeeze, "squeeze", self.squeeze, fix)
        _normalise(self)

    @property
    def channels(self) -> int:
        """Channels of the image: 1 is grey, 3 is RGB."""
        return len(self.mean)

    def resized(self, image_size: Size) -> Size:
        """Pixels (height, width) that an image of that size is resized to."""
        if self.scale is None:
            return image_size
        if self.squeeze:
            return self.scale
        factor = min(self.scale[0] / max(image_size), self.scale[1] / min(image_size))
        height, width = (max(int(side * factor + 0.5), 1) for side in image_size)
        return height, width

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, with `kind: dense`; `preprocessing_from_dict` reads them back."""
        return {"kind": "dense", **_plain(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DensePreprocessing:
        """Reads what `to_dict` wrote. An unknown field is a `PreprocessingError` that lists the known ones."""
        values = {name: value for name, value in values.items() if name != "kind"}
        _check_fields(values, cls)
        return cls(**values)

    @classmethod
    def coco(cls) -> DensePreprocessing:
        """That of the official detectors: within (1333, 800), padded to multiples of 32."""
        return cls()

    @classmethod
    def ade20k(cls) -> DensePreprocessing:
        """That of the official segmenters: within (2048, 512), not padded."""
        return cls(scale=(2048, 512), size_divisor=1)


def preprocessing_from_dict(values: Mapping[str, Any]) -> Preprocessing | DensePreprocessing:
    """Reads what either's `to_dict` wrote; a classifier's names no `kind`.

    Raises:
        PreprocessingError: an unknown kind, or fields that it does not have.
    """
    kind = values.get("kind")
    if kind == "dense":
        return DensePreprocessing.from_dict(values)
    _require(kind is None, "kind", kind, "this version knows 'dense', and a classifier's, which names none")
    return Preprocessing.from_dict(values)


def _require(condition: bool, name: str, value: object, fix: str) -> None:
    require(condition, f"preprocessing: {name}", value, fix, error=PreprocessingError)


def _plain(preprocessing: Preprocessing | DensePreprocessing) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(preprocessing).items()
        # Versions before these were there would refuse them.
        if (name, value) not in (("white_level", None), ("antialias", False), ("squeeze", False))
    }


def _check_fields(
    values: Mapping[str, Any], kind: type[Preprocessing] | type[DensePreprocessing], required: tuple[str, ...] = ()
) -> None:
    fields = [field.name for field in dataclasses.fields(kind)]
    wrong = {
        "unknown": [name for name in values if name not in fields],
        "missing": [name for name in required if name not in values],
    }
    if listed := "; ".join(f"{what}: {', '.join(names)}" for what, names in wrong.items() if names):
        raise PreprocessingError(f"preprocessing has other fields ({listed}); it has {', '.join(fields)}")


def _normalise(preprocessing: Preprocessing | DensePreprocessing) -> None:
    """Makes its mean and deviation tuples of numbers, one a channel, and checks them."""
    for name in ("mean", "std"):
        object.__setattr__(preprocessing, name, _floats(name, getattr(preprocessing, name)))
    mean, std = preprocessing.mean, preprocessing.std
    _require(len(std) == len(mean), "std", std, f"give one number for each channel, as many as mean={mean} has")
    _require(all(value > 0 for value in std), "std", std, "use numbers above 0")
    white = preprocessing.white_level
    fix = "use a whole number from 1 to 65535, or None for 65535"
    _require(white is None or is_count(white) and white <= 65535, "white_level", white, fix)


def _pair(name: str, value: Any) -> Size:
    pair: Size = as_pair(value)
    _require(is_pair(pair), name, value, "use a positive whole number of pixels, or two of them (height, width)")
    return pair


def _floats(name: str, value: Any) -> tuple[float, ...]:
    ok = isinstance(value, list | tuple) and len(value) > 0
    ok = ok and all(isinstance(number, int | float) and math.isfinite(number) for number in value)
    _require(ok, name, value, "give one finite number for each channel")
    return tuple(float(number) for number in value)
