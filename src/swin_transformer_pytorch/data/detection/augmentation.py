"""Which random changes training makes to the images of a detector. Imports no torch: recipes read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ...checks import is_count, is_pair, is_rate, is_span, require

_SCALES = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)


@dataclass(frozen=True, kw_only=True)
class DetectionAugmentation:
    """The random changes of a detector's training run. The defaults are the official recipes', DETR's policy.

    Attributes:
        flip_prob: probability of a horizontal flip.
        scales: the shorter side becomes one of these pixels, each as likely as the others; several are multi-scale
            training. None, written (): resized as for evaluation. "auto": 0.6 to 1 times evaluation's shorter side.
        max_long: most pixels of the longer side; it wins over `scales`. "auto": evaluation's longer side.
        crop_prob: probability that a part is cut out before that resize; 0 for never.
        crop_scales: for such a crop, the image's shorter side first becomes one of these pixels.
        crop_range: each side of the part is then drawn from these pixels, least and most, as far as the image has
            them. A part without objects is as good as any other.
        jitter_range: instead of `scales`, the image is made to fit into `fixed_size` times a random number, of which
            these are the least and the largest: large-scale jitter (arXiv 2012.07177, where it is 0.1 to 2). None,
            written null, for none.
        fixed_size: (height, width) in pixels of a random part of the resized image; what the image has not is grey. An
            object that has no box in it is dropped. None, written null, for the whole image.
        photometric: whether brightness, contrast, saturation and hue change, each with probability 0.5.
        instaboost: whether objects are moved about in their image first (InstaBoost, arXiv 1908.07801), as in HTC++.
    """

    flip_prob: float = 0.5
    scales: tuple[int, ...] | Literal["auto"] = _SCALES
    max_long: int | Literal["auto"] = 1333
    crop_prob: float = 0.5
    crop_scales: tuple[int, ...] = (400, 500, 600)
    crop_range: tuple[int, int] = (384, 600)
    jitter_range: tuple[float, float] | None = None
    fixed_size: tuple[int, int] | None = None
    photometric: bool = False
    instaboost: bool = False

    def __post_init__(self) -> None:
        for name in ("flip_prob", "crop_prob"):
            value = getattr(self, name)
            _require(is_rate(value), name, value, "a probability in [0, 1]")
        for name in ("scales", "crop_scales", "crop_range"):
            value = getattr(self, name)
            if name == "scales" and value == "auto":
                continue
            ok = isinstance(value, list | tuple) and all(is_count(side, 1, 65535) for side in value)
            _require(ok and (len(value) > 0 or name == "scales"), name, value, "whole numbers of pixels, 1 to 65,535")
            object.__setattr__(self, name, tuple(value))
        ok = len(self.crop_range) == 2 and self.crop_range[0] <= self.crop_range[1]
        _require(ok, "crop_range", self.crop_range, "two whole numbers of pixels, the smaller first")
        largest = self._largest
        ok = self.max_long == "auto" or is_count(self.max_long, largest, 65535)
        _require(ok, "max_long", self.max_long, f"a whole number of pixels, at least {largest}, the largest scale")
        if self.fixed_size is not None:
            fix = "[height, width] in pixels, or null for the whole image"
            _require(is_pair(self.fixed_size), "fixed_size", self.fixed_size, fix)
            object.__setattr__(self, "fixed_size", tuple(self.fixed_size))
        if self.jitter_range is not None:
            factors = self.jitter_range
            fix = "two positive numbers, the smaller first, or null"
            _require(is_span(factors), "jitter_range", factors, fix)
            _require(self.fixed_size is not None, "fixed_size", None, "[height, width] in pixels beside jitter_range")
            object.__setattr__(self, "jitter_range", tuple(factors))
        for name in ("photometric", "instaboost"):
            _require(isinstance(getattr(self, name), bool), name, getattr(self, name), "true or false")

    @property
    def _largest(self) -> int:
        """The largest scale that it names."""
        named = (*(() if isinstance(self.scales, str) else self.scales), *(self.crop_scales if self.crop_prob else ()))
        return max((1, *named))

    def at(self, scale: tuple[int, int] | None) -> DetectionAugmentation:
        """The same, with what is "auto" chosen for evaluation's `scale`, (longest, shortest) side or None."""
        scales, max_long = self.scales, self.max_long
        if "auto" not in (scales, max_long):
            return self
        if scales == "auto":
            scales = () if scale is None else tuple(max(round(side * scale[1] / 800), 1) for side in _SCALES)
        if max_long == "auto":
            max_long = max(1333 if scale is None else scale[0], self._largest)
        return replace(self, scales=scales, max_long=max_long)

    @classmethod
    def none(cls) -> DetectionAugmentation:
        """No random change at all: training sees what evaluation sees."""
        return cls(flip_prob=0.0, scales=(), crop_prob=0.0)


def _require(condition: bool, name: str, value: object, fix: str) -> None:
    require(condition, f"augmentation {name}", value, f"use {fix}")
