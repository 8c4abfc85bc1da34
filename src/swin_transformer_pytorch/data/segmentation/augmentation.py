"""Which random changes training makes to the images of a segmenter. Imports no torch: recipes read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ...checks import is_count, is_number, is_pair, is_rate, is_span, require


@dataclass(frozen=True, kw_only=True)
class SegmentationAugmentation:
    """The random changes of a segmenter's training run, in this order. The defaults are the official ADE20K recipe's.

    Attributes:
        scale: (longest, shortest) side in pixels that an image is resized within, keeping its shape, before the
            random factor; None, written null, for the image's own size; "auto" for evaluation's.
        ratio_range: least and largest random factor on that.
        ratio_step: the factor is one of a row with this step, from the least on, each as likely; None for any between.
        max_long: most pixels of the longer side, whatever the factor; None: the factor is on `scale`'s too.
        crop_size: (height, width) in pixels of a random part; what the image has not is padded, with label 255. None,
            written null, for the whole image; "auto" for 512, or what images are resized to where that is less.
        pad_value: the byte of that padding, before the image is normalised; None for the mean colour, 0 after it.
        cat_max_ratio: another part is drawn, up to ten times, while one class has this share or more of the labelled
            pixels, or is the only one; 1 takes the first part.
        flip_prob: probability of a horizontal flip.
        photometric: whether brightness, contrast, saturation and hue change, each with probability 0.5.
    """

    scale: tuple[int, int] | Literal["auto"] | None = (2048, 512)
    ratio_range: tuple[float, float] = (0.5, 2.0)
    ratio_step: float | None = None
    max_long: int | None = None
    crop_size: tuple[int, int] | Literal["auto"] | None = (512, 512)
    pad_value: int | None = None
    cat_max_ratio: float = 0.75
    flip_prob: float = 0.5
    photometric: bool = True

    def __post_init__(self) -> None:
        for name, fix in (
            ("scale", "[longest, shortest] side in pixels, or null for the image's own size"),
            ("crop_size", "[height, width] in pixels, or null for the whole image"),
        ):
            value = getattr(self, name)
            if value not in (None, "auto"):
                ok = is_pair(value)
                ok = ok and (name != "scale" or value[0] >= value[1])
                _require(ok, name, value, fix)
                object.__setattr__(self, name, tuple(value))
        ratios = self.ratio_range
        _require(is_span(ratios), "ratio_range", ratios, "two positive numbers, the smaller first")
        object.__setattr__(self, "ratio_range", tuple(ratios))
        step = self.ratio_step
        _require(step is None or (is_number(step) and step > 0), "ratio_step", step, "a number above 0, or null")
        if self.max_long is not None:
            least = int(self.scale[1] * ratios[1]) if isinstance(self.scale, tuple) else None
            fix = f"a whole number of pixels, at least {least}, the largest shorter side, or null"
            ok = least is not None and is_count(self.max_long, least, 65535)
            _require(ok, "max_long", self.max_long, fix if least else f"null with scale={self.scale}")
        ok = self.pad_value is None or is_count(self.pad_value, 0, 255)
        _require(ok, "pad_value", self.pad_value, "a whole number from 0 to 255, or null")
        ok = is_number(self.cat_max_ratio) and 0 < self.cat_max_ratio <= 1
        _require(ok, "cat_max_ratio", self.cat_max_ratio, "a share above 0, at most 1")
        _require(is_rate(self.flip_prob), "flip_prob", self.flip_prob, "a probability in [0, 1]")
        _require(isinstance(self.photometric, bool), "photometric", self.photometric, "true or false")

    def at(self, scale: tuple[int, int] | None, shorter_side: int | None = None) -> SegmentationAugmentation:
        """The same, with what is "auto" chosen.

        Args:
            scale: evaluation's, (longest, shortest) side or None.
            shorter_side: that of the usual image, where `scale` is None.
        """
        if "auto" not in (self.scale, self.crop_size):
            return self
        side = min(shorter_side or 512, 512) if scale is None else min(scale[1], 512)
        crop_size = (side, side) if self.crop_size == "auto" else self.crop_size
        return replace(self, scale=scale if self.scale == "auto" else self.scale, crop_size=crop_size)

    @classmethod
    def none(cls) -> SegmentationAugmentation:
        """No random change at all, of images at their own size."""
        return cls(scale=None, ratio_range=(1.0, 1.0), crop_size=None, flip_prob=0.0, photometric=False)


def _require(condition: bool, name: str, value: object, fix: str) -> None:
    require(condition, f"augmentation {name}", value, f"use {fix}")
