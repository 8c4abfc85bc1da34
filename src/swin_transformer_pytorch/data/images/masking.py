"""Which parts of an image masked pre-training hides: whole squares, drawn anew for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ...sizes import Size

_FIXED = 0x51A5  # apart from other uses of small numbers as seeds


class HidesSquares(Protocol):
    """The config of a model that has parts of images hidden from it."""

    @property
    def mask_ratio(self) -> float: ...
    def mask_layout(self, image_size: Size) -> tuple[Size, Size]: ...


@dataclass(frozen=True)
class MaskRule:
    """How images of one size are hidden (arXiv 2111.09886, section 3.2).

    Attributes:
        grid: rows and columns of squares in an image.
        patches: rows and columns of patches in a square.
        ratio: the share of the squares that is hidden, rounded up.
    """

    grid: Size
    patches: Size
    ratio: float

    @classmethod
    def of(cls, config: HidesSquares, image_size: Size) -> MaskRule:
        """That of a model, for images of (height, width) pixels."""
        grid, patches = config.mask_layout(image_size)
        return cls(grid, patches, config.mask_ratio)

    @property
    def num_squares(self) -> int:
        """Of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def num_hidden(self) -> int:
        """How many of them are hidden, in every image as many."""
        # 0.7 * 10 is a hair above 7 in binary.
        return math.ceil(round(self.num_squares * self.ratio, 6))

    def draw(self, generator: np.random.Generator) -> Bool[Tensor, "h w"]:
        """Of each patch whether it is hidden: as in the official code, the first squares of one random order."""
        squares = np.zeros(self.num_squares, dtype=np.bool_)
        squares[generator.permutation(self.num_squares)[: self.num_hidden]] = True
        down, right = self.patches
        return torch.from_numpy(squares.reshape(self.grid).repeat(down, axis=0).repeat(right, axis=1))

    def fixed(self, place: int) -> Bool[Tensor, "h w"]:
        """What the image at that place of a data set hides whenever it is measured or shown."""
        return self.draw(np.random.default_rng([_FIXED, place]))
