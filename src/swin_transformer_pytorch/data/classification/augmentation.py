"""Which random changes training makes to its images. Imports no torch: recipes and the command line read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ...checks import is_count, require


@dataclass(frozen=True, kw_only=True)
class RandAugmentPolicy:
    """RandAugment (arXiv 1909.13719) with timm's increasing set of operations, read from a policy string.

    Attributes:
        num_ops: operations drawn for an image, with replacement.
        magnitude: strength, 0 to 10.
        magnitude_std: standard deviation of the normal noise on each operation's strength.
        probability: chance that a drawn operation is applied.
    """

    num_ops: int = 2
    magnitude: float = 9.0
    magnitude_std: float = 0.0
    probability: float = 0.5

    @classmethod
    def parse(cls, policy: str) -> RandAugmentPolicy:
        """Reads "rand-m9-mstd0.5-inc1": m magnitude, mstd its noise, n operations, p probability, inc1 required.

        Raises:
            ValueError: the string is no such policy.
        """
        kind, *parts = policy.split("-")
        values: dict[str, float] = {}
        for part in parts:
            match = re.fullmatch(r"(m|mstd|n|p|inc)(\d{1,2}(?:\.\d{1,9})?)", part)
            if match is None:
                kind = ""
                break
            values[match[1]] = float(match[2])
        if kind != "rand" or values.get("inc") != 1:
            raise ValueError(
                f"auto_augment={policy!r} is not known: use 'rand-m9-mstd0.5-inc1' (m: magnitude 0 to 10, mstd: its "
                "noise, n: operations an image, p: probability; inc1 is the one set of operations), or null for none"
            )
        spec = cls(
            num_ops=int(values.get("n", 2)),
            magnitude=values.get("m", 9.0),
            magnitude_std=values.get("mstd", 0.0),
            probability=values.get("p", 0.5),
        )
        if spec.magnitude > 10 or spec.probability > 1 or spec.magnitude_std > 100:
            raise ValueError(f"auto_augment={policy!r} is out of range: use m of at most 10, mstd of 100, p of 1")
        return spec


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The random changes of a training run. The defaults are the official ImageNet recipe's.

    Attributes:
        crop: "random_resized" (a random part, resized), "pad" (evaluation's image, padded with zeros and cropped
            back at a random place) or "none" (evaluation's image).
        crop_scale: for "random_resized", the part's area over the image's, smallest and largest.
        crop_ratio: for "random_resized", its width over its height, smallest and largest.
        crop_padding: for "pad", pixels on each side.
        flip_prob: probability of a horizontal flip.
        color_jitter: strength of random brightness, contrast and saturation; 0 for none. As in the official recipe
            it is used only where `auto_augment` is None.
        auto_augment: a RandAugment policy (see `RandAugmentPolicy.parse`), or None.
        erase_prob: probability that a random rectangle is replaced by normal noise (arXiv 1708.04896).
        mixup: alpha of mixup's Beta distribution (arXiv 1710.09412); 0 for none.
        cutmix: alpha of CutMix's Beta distribution (arXiv 1905.04899); 0 for none.
        mixup_prob: probability that a batch is mixed at all.
        switch_prob: probability of CutMix rather than mixup where both are on.
    """

    crop: Literal["random_resized", "pad", "none"] = "random_resized"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    crop_padding: int = 4
    flip_prob: float = 0.5
    color_jitter: float = 0.4
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    erase_prob: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    mixup_prob: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        _require(self.crop in ("random_resized", "pad", "none"), "crop", self.crop, "'random_resized', 'pad' or 'none'")
        for name, largest in (("crop_scale", 1.0), ("crop_ratio", float("inf"))):
            pair = tuple(getattr(self, name))
            ok = len(pair) == 2 and 0 < pair[0] <= pair[1] <= largest
            _require(ok, name, pair, f"two positive numbers, the smaller first{', at most 1' if largest == 1 else ''}")
            object.__setattr__(self, name, pair)
        _require(is_count(self.crop_padding, 0, 1024), "crop_padding", self.crop_padding, "0 to 1,024 pixels")
        for name in ("flip_prob", "erase_prob", "mixup_prob", "switch_prob"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a probability in [0, 1]")
        for name in ("color_jitter", "mixup", "cutmix"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "a number of at least 0 (0 turns it off)")
        if self.auto_augment is not None:
            RandAugmentPolicy.parse(self.auto_augment)

    @classmethod
    def none(cls) -> Augmentation:
        """No random change at all: training sees what evaluation sees."""
        return cls(
            crop="none", flip_prob=0.0, color_jitter=0.0, auto_augment=None, erase_prob=0.0, mixup=0.0, cutmix=0.0
        )


def _require(condition: bool, name: str, value: object, fix: str) -> None:
    require(condition, f"augmentation {name}", value, f"use {fix}")
