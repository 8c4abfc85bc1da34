"""What the data sets of labelled image files share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..images.bands import read_pixels
from ..images.decoding import Decoding
from ..images.opened import OpenedImage


class LabelledFiles(Dataset[tuple[Image.Image | Tensor, Any]]):
    """Image files with labels. Items are (PIL image, or tensor of bands, label), see `read_pixels`.

    Args:
        channels: 3 for RGB, 1 for grey, or those of NPY files and TIFFs of bands; None for as many as each file has.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `read_image`.
        decoding: how `opened` images are decoded, see `OpenedImage`.

    Attributes:
        paths: the file of each item, or what it holds.
    """

    paths: Sequence[str | Path | bytes]

    def __init__(
        self, *, channels: int | None, max_pixels: int | None, white_level: int | None, decoding: Decoding = "exact"
    ) -> None:
        self.channels = channels
        self.decoding: Decoding = decoding
        self.max_pixels = max_pixels
        self.white_level = white_level

    def __len__(self) -> int:
        return len(self.paths)

    def source(self, index: int) -> str | Path | bytes:
        """The file of an item, or what it holds."""
        return self.paths[index]

    def read(self, index: int) -> Image.Image | Tensor:
        """One image; an `ImageError` names its file where it cannot be read."""
        source = self.source(index)
        return read_pixels(source, self.channels, max_pixels=self.max_pixels, white_level=self.white_level)

    @abstractmethod
    def label(self, index: int) -> Any:
        """The label of an item."""

    def __getitem__(self, index: int) -> tuple[Image.Image | Tensor, Any]:
        return self.read(index), self.label(index)

    def opened(self, index: int) -> tuple[OpenedImage, Any]:
        """An item whose image is decoded when it is known how much of it is needed. Raises as `read` does."""
        image = OpenedImage(
            self.source(index),
            self.channels,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
            decoding=self.decoding,
        )
        return image, self.label(index)
