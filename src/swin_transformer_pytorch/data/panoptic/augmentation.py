"""Which random changes training makes to images with segments. Imports no torch: recipes read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ...checks import is_count, is_number, is_pair, is_rate, is_span, require

CropPlace = Literal["diagonal", "anywhere"]


@dataclass(frozen=True, kw_only=True)
class PanopticAugmentation:
    """The random changes of a panoptic training run, in this order. The defaults are Mask2Former's for COCO, which is
    large-scale jitter; for other data sets the authors have steps of 0.1 from 0.5 to 2, crops anywhere, and colours.

    Attributes:
        scale: (longest, shortest) side in pixels that an image is resized within, keeping its shape, before the
            random factor; None, written null, for the image's own size; "auto" for evaluation's.
        ratio_range: least and largest random factor on that.
        max_long: longest side in pixels whatever the factor, which is then one on the shortest side alone; None,
            written null, for the factor on both.
        ratio_step: factors are the least one and so many steps more; None, written null, for any in the range.
        crop_size: (height, width) in pixels of a random part; what the image has not is padded, void. None, written
            null, for the whole image; "auto" for evaluation's shorter side, square.
        crop_place: "anywhere", or "diagonal": as far down as to the right, of what there is on either side.
        flip_prob: probability of a horizontal flip.
        photometric: whether brightness, contrast, saturation and hue change, each with probability 0.5.
    """

    scale: tuple[int, int] | Literal["auto"] | None = (1024, 1024)
    ratio_range: tuple[float, float] = (0.1, 2.0)
    max_long: int | None = None
    ratio_step: float | None = None
    crop_size: tuple[int, int] | Literal["auto"] | None = (1024, 1024)
    crop_place: CropPlace = "diagonal"
    flip_prob: float = 0.5
    photometric: bool = False

    def __post_init__(self) -> None:
        for name, fix in (
            ("scale", "[longest, shortest] side in pixels, auto, or null for the image's own size"),
            ("crop_size", "[height, width] in pixels, auto, or null for the whole image"),
        ):
            value = getattr(self, name)
            if value not in (None, "auto"):
                _require(is_pair(value) and (name != "scale" or value[0] >= value[1]), name, value, fix)
                object.__setattr__(self, name, tuple(value))
        ratios = self.ratio_range
        _require(is_span(ratios), "ratio_range", ratios, "two positive numbers, the smaller first")
        object.__setattr__(self, "ratio_range", tuple(ratios))
        long, fix = self.max_long, "a whole number of pixels, or null; and a scale that it limits"
        _require(long is None or is_count(long) and self.scale is not None, "max_long", long, fix)
        step = self.ratio_step
        ok = step is None or is_number(step) and step > 0
        _require(ok, "ratio_step", step, "a number above 0, or null for any factor in the range")
        fix = f"one of {', '.join(get_args(CropPlace))}"
        _require(self.crop_place in get_args(CropPlace), "crop_place", self.crop_place, fix)
        _require(is_rate(self.flip_prob), "flip_prob", self.flip_prob, "a probability in [0, 1]")
        _require(isinstance(self.photometric, bool), "photometric", self.photometric, "true or false")

    def at(self, scale: tuple[int, int] | None, shorter_side: int | None = None) -> PanopticAugmentation:
        """The same, with what is "auto" chosen.

        Args:
            scale: evaluation's, (longest, shortest) side or None.
            shorter_side: that of the usual image, where `scale` is None; None for 512.
        """
        if "auto" not in (self.scale, self.crop_size):
            return self
        side = (shorter_side or 512) if scale is None else scale[1]
        return replace(
            self,
            scale=scale if self.scale == "auto" else self.scale,
            crop_size=(side, side) if self.crop_size == "auto" else self.crop_size,
        )

    @classmethod
    def none(cls) -> PanopticAugmentation:
        """No random change at all, of images at their own size."""
        return cls(scale=None, ratio_range=(1.0, 1.0), crop_size=None, flip_prob=0.0)


def _require(condition: bool, name: str, value: object, fix: str) -> None:
    require(condition, f"augmentation {name}", value, f"use {fix}")
