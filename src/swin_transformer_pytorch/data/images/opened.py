"""An image file whose size is known and whose pixels are decoded when it is known how many of them are needed."""

from __future__ import annotations

import contextlib
import os
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from ...sizes import Size
from ..errors import ImageError
from .bands import read_pixels
from .decode import ImageSource, check_pixels, read_image, source_name
from .decoding import Decoding
from .jpeg import JpegHeader, decode, read_header
from .pixels import as_pixels, height_width

Pixels: TypeAlias = Image.Image | Tensor | UInt8[np.ndarray, "H W C"]
"""A PIL image, a float tensor in [0, 1] (see `as_pixels`), or 8-bit pixels of as many channels as the model takes."""

_SCALES: tuple[Literal[8, 4, 2], ...] = (8, 4, 2)  # what libjpeg divides both sides by at no cost
_MARGIN = 2  # a filter of libjpeg's, a coarser one, then leaves less to be seen
_JPEG = b"\xff\xd8\xff"


class HeldImage:
    """Pixels that are there already, as `OpenedImage` would give them.

    Attributes:
        size: (height, width) in pixels.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.size = size_of(pixels)

    def pixels(self, enough: float = 1.0) -> Pixels:
        """All of them."""
        return self._pixels


class OpenedImage:
    """An image file, opened.

    Args:
        source: a path, or a file's bytes.
        channels: of the model; None for as many as the file has.
        max_pixels, white_level: see `read_pixels`.
        decoding: "exact": Pillow's pixels, to the bit. "scaled": a JPEG of many more pixels than are needed is
            decoded at a half, a quarter or an eighth of its sides, with at least twice as many pixels along both
            as are needed. That takes less than half the time of a photograph of 12 million pixels; what is resized from
            it differs by a fraction of a level on average.

    Attributes:
        size: (height, width) in pixels, upright.
        channels: as given.

    Raises:
        ImageError: as `read_pixels`.
    """

    def __init__(
        self,
        source: ImageSource,
        channels: int | None,
        *,
        max_pixels: int | None = None,
        white_level: int | None = None,
        decoding: Decoding = "exact",
    ) -> None:
        self._source, self._name, self._decoding = source, source_name(source), decoding
        self.channels, self._max_pixels, self._white_level = channels, max_pixels, white_level
        self._data = b""
        self._header = self._jpeg()
        self._pixels = self._by_pillow() if self._header is None else None
        self.size: Size = size_of(self._pixels) if self._pixels is not None else self._header.upright_size  # type: ignore[union-attr]

    def pixels(self, enough: float = 1.0) -> Pixels:
        """The pixels; those that are scaled have along both sides at least twice `enough` of the file's.

        Raises:
            ImageError: the file is damaged.
        """
        if self._header is None:
            assert self._pixels is not None
            return self._pixels
        if self._decoding == "scaled" and (
            scale := next((one for one in _SCALES if enough * _MARGIN * one <= 1), None)
        ):
            return read_image(self._source, self.channels or 3, max_pixels=self._max_pixels, scale=scale)
        found = decode(self._data, self._header)
        if found is None:
            return self._by_pillow()
        return found.repeat(3, axis=2) if found.shape[2] == 1 and self.channels != 1 else found

    def _jpeg(self) -> JpegHeader | None:
        """The header of a usual JPEG that goes with the model's channels, whose bytes are then kept."""
        data = self._source
        if self.channels not in (1, 3, None) or isinstance(data, Image.Image):
            return None
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        elif not isinstance(data, bytes):
            with contextlib.suppress(OSError):  # Pillow says it in its own words
                if not os.path.isfile(data):
                    return None
                with open(data, "rb", buffering=0) as file:
                    beginning = file.read(len(_JPEG))
                    data = _JPEG + file.read() if beginning == _JPEG else b""
        if not isinstance(data, bytes) or not data:
            return None
        header = read_header(data)
        # Of colours Pillow makes grey by a rule of its own.
        if header is None or (self.channels == 1 and header.components == 3):
            return None
        with contextlib.suppress(ImageError):  # Pillow says it in its own words
            check_pixels(header.size[1], header.size[0], self._name, self._max_pixels)
            self._data = data
            return header
        return None

    def _by_pillow(self) -> Image.Image | Tensor:
        found = read_pixels(self._source, self.channels, max_pixels=self._max_pixels, white_level=self._white_level)
        if isinstance(found, Tensor) and self.channels is not None:  # bands, of whatever type their file has
            return as_pixels(found, self.channels, self._white_level)
        return found


def size_of(pixels: Pixels) -> Size:
    """(height, width)."""
    return (pixels.shape[0], pixels.shape[1]) if isinstance(pixels, np.ndarray) else height_width(pixels)


def as_image(pixels: Image.Image | UInt8[np.ndarray, "H W C"]) -> Image.Image:
    """8-bit grey or colours as PIL has them."""
    if isinstance(pixels, Image.Image):
        return pixels
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def as_whole(pixels: Pixels) -> Image.Image | Tensor:
    """What PIL and torchvision work on."""
    return pixels if isinstance(pixels, Tensor) else as_image(pixels)


def as_bytes(pixels: Pixels) -> UInt8[np.ndarray, "H W C"] | None:
    """What the CPU kernels work on; None for others than 8-bit grey and colours."""
    if isinstance(pixels, np.ndarray):
        return pixels
    if not isinstance(pixels, Image.Image) or pixels.mode not in ("L", "RGB"):
        return None
    array = np.asarray(pixels)
    return array[:, :, None] if array.ndim == 2 else array


def cut(pixels: Pixels, top: int, left: int, height: int, width: int) -> Pixels:
    """A part of an image; it may share its memory."""
    if isinstance(pixels, Image.Image):
        return pixels.crop((left, top, left + width, top + height))
    if isinstance(pixels, np.ndarray):
        return pixels[top : top + height, left : left + width]
    return pixels[:, top : top + height, left : left + width]
