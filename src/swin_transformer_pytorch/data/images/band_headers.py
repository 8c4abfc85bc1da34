"""What the headers of NPY files and of TIFFs tell of an image: its channels and its size. Imports no torch."""

from __future__ import annotations

import contextlib
import os
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from ...sizes import Size
from ..errors import ImageError
from .decode import TIFFS, ImageSource, image_size, open_file, reading, source_name

_NPY = b"\x93NUMPY"
_LAYOUTS = {None: "(height, width)", 0: "(channels, height, width)", 2: "(height, width, channels)"}
_WIDTH, _HEIGHT, _PHOTOMETRIC, _SAMPLES, _EXTRA_SAMPLES = 256, 257, 262, 277, 338  # tags of TIFF
_WHITE_OR_BLACK_OR_RGB, _ALPHA = (0, 1, 2), (1, 2)  # values of the third and the last


def find_bands(source: ImageSource) -> tuple[int, str] | None:
    """How many channels a NPY file, or a TIFF of other than grey or coloured pixels, has by its header, and how it
    holds them, in words; None for any other image, and for what cannot be read.
    """
    if isinstance(source, Image.Image):
        return None
    with contextlib.suppress(ImageError):
        name = source_name(source)
        with reading(source, name), open_file(source, name) as file:
            kind = file_kind(file)
            if kind == "npy":
                shape, _ = npy_header(file)
                axis = channel_axis(shape, name)
                return 1 if axis is None else shape[axis], f"in NPY files, {_LAYOUTS[axis]}"
            if kind == "tiff" and (count := _tiff_bands(file)) not in (1, 3):
                return count, "in TIFF files"
    return None


def input_size(path: str | os.PathLike[str]) -> Size:
    """(height, width) in pixels of an image, or of an array or a TIFF of bands, by its header; see `image_size`.

    Raises:
        ImageError: the file is missing, or no header can be read.
    """
    bands = find_bands(path)
    if bands is None:
        return image_size(path)
    name = source_name(path)
    with reading(path, name), open_file(path, name) as file:
        if file_kind(file) == "tiff":
            tags = _tiff_tags(file)
            return int(tags[_HEIGHT]), int(tags[_WIDTH])
        shape, _ = npy_header(file)
        height, width = (side for place, side in enumerate(shape) if place != channel_axis(shape, name))
        return height, width


def file_kind(file: BinaryIO) -> str:
    """What a file is by its beginning: "npy", "tiff", or nothing of both."""
    head = file.read(len(_NPY))
    file.seek(0)
    return "npy" if head == _NPY else "tiff" if head[:4] in TIFFS else ""


def npy_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array of an NPY file, which is at its beginning."""
    first = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def channel_axis(shape: tuple[int, ...], name: str) -> int | None:
    """Which axis of an array holds the channels, the first or the last; None for neither of two."""
    if len(shape) == 2:
        return None
    if len(shape) == 3 and shape[0] < min(shape[1:]):
        return 0
    if len(shape) == 3 and shape[2] < min(shape[:2]):
        return 2
    raise ImageError(
        f"{name} is an array of shape {shape}, of which no axis is known for the channels; save (height, width, "
        "channels) or (channels, height, width), with fewer channels than pixels along either side"
    )


def _tiff_bands(file: BinaryIO) -> int:
    """Samples of a pixel by the first directory, without alpha; 3 where they are inks or a palette's."""
    tags = _tiff_tags(file)
    if tags.get(_PHOTOMETRIC) not in _WHITE_OR_BLACK_OR_RGB:
        return 3
    alpha = sum(extra in _ALPHA for extra in tags.get(_EXTRA_SAMPLES, ()))
    return int(tags.get(_SAMPLES, 1)) - alpha


def _tiff_tags(file: BinaryIO) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The first directory of a TIFF."""
    head = file.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head + (file.read(8) if head[2] == 43 else b""))  # BigTIFF
    file.seek(tags.next)
    tags.load(file)
    return tags
