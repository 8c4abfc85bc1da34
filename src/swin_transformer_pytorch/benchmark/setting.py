"""What is measured: a model, on images of one size, in one way."""

from __future__ import annotations

from dataclasses import dataclass

from ..backbone.config import SwinConfig, find_variant
from ..sizes import Size

MODES = ("inference", "training", "features")
DTYPES = ("float32", "bfloat16", "float16")


class BenchmarkError(ValueError):
    """A measurement that cannot be made. The message says why and the fix."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all libraries of a comparison are given.

    Attributes:
        model: an official name.
        mode: "inference": images to logits, the weights in `dtype`. "training": a forward and backward pass, in
            autocast where `dtype` is not float32. "features": inference, images to the maps of all stages.
        batch_size: images.
        dtype: "float32", "bfloat16" or "float16".
        image_size: pixels (height, width).
    """

    model: str
    mode: str
    batch_size: int
    dtype: str
    image_size: Size

    def __post_init__(self) -> None:
        find_variant(self.model)
        if self.mode not in MODES:
            raise BenchmarkError(f"mode {self.mode!r} is not one of {', '.join(MODES)}")
        if self.dtype not in DTYPES:
            raise BenchmarkError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        require_positive("batch_size", self.batch_size)
        require_positive("image_size", min(self.image_size))

    @property
    def config(self) -> SwinConfig:
        """The model's backbone."""
        return find_variant(self.model).config

    @property
    def pixels(self) -> int:
        """Of all images of the batch."""
        return self.batch_size * self.image_size[0] * self.image_size[1]


def require_positive(argument: str, value: int) -> None:
    """Refuses counts below one."""
    if value < 1:
        raise BenchmarkError(f"{argument}={value} must be at least 1")
