"""What the data sets of labelled image files share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..images.bands import read_pixels


class LabelledFiles(Dataset[tuple[Image.Image | Tensor, Any]]):
    """Image files with labels. Items are (PIL image, or tensor of bands, label), see `read_pixels`.

    Args:
        channels: 3 for RGB, 1 for grey, or those of NPY files and TIFFs of bands; None for as many as each file has.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `read_image`.

    Attributes:
        paths: the file of each item, or what it holds.
    """

    paths: Sequence[str | Path | bytes]

    def __init__(self, *, channels: int | None, max_pixels: int | None, white_level: int | None) -> None:
        self.channels = channels
        self.max_pixels = max_pixels
        self.white_level = white_level

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Image.Image | Tensor:
        """One image; an `ImageError` names its file where it cannot be read."""
        return self.decode(self.paths[index])

    def decode(self, source: str | Path | bytes) -> Image.Image | Tensor:
        """Likewise of a file or what it holds."""
        return read_pixels(source, self.channels, max_pixels=self.max_pixels, white_level=self.white_level)
