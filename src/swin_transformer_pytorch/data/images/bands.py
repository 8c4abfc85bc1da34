"""Images of any number of channels: arrays in NPY files, and TIFFs of several bands."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ... import extras
from ..errors import ImageError
from .band_headers import channel_axis, file_kind, find_bands, npy_header
from .decode import (
    WIDE_GREY,
    ImageSource,
    check_pixels,
    check_white,
    open_file,
    open_image,
    read_image,
    reading,
    source_name,
)

_WHITES, _WHITEST = (255, 1023, 4095, 16383), 65535  # of 8, 10, 12, 14 and 16 bits
_LOOKED_AT = 16
_TO_USE_THEM = "save them with {white} as 65535, or train with data.white_level {white}"

_log = logging.getLogger(__name__)


def read_pixels(
    source: ImageSource, channels: int | None, *, max_pixels: int | None = None, white_level: int | None = None
) -> Image.Image | Tensor:
    """One image as a model of that many channels takes it, in a form of `ImageInput`.

    What the file holds counts, not its name. NPY files hold (height, width), (height, width, channels) or (channels,
    height, width), where the channels are fewer than the pixels along either side; and uint8, uint16, or floats in
    [0, 1]. So do TIFFs of several bands or pages, one a channel, where `channels` is neither 1 nor 3.

    Args:
        source: a path, a file's bytes, or an opened PIL image.
        channels: of the model; None for as many as the file has.
        max_pixels: see `open_image`; four channels count as one.
        white_level: of 16 bits, see `read_image`; None is 65,535 in these files.

    Returns:
        Of these files a tensor (channels, height, width), uint8 or float in [0, 1]; of all others what `read_image`
        gives. Grey and RGB go for each other.

    Raises:
        ImageError: as `read_image`; or the channels cannot be told, are others than the model's, or of another type.
        MissingExtraError: tifffile, which reads the bands of TIFFs, is not installed.
    """
    name = source_name(source)
    if channels is None:
        channels = (find_bands(source) or (3, ""))[0]
    array = None
    if not isinstance(source, Image.Image):
        with reading(source, name), open_file(source, name) as file:
            array = _read_array(file, name, channels, max_pixels)
    if array is None:
        return read_image(source, channels, max_pixels=max_pixels, white_level=white_level)
    if len(array) != channels and {len(array), channels} != {1, 3}:
        raise ImageError(f"{name} has {len(array)} channels and the model takes {channels}; give one that fits")
    return _as_tensor(array, name, white_level)


def likely_white_level(sources: Iterable[ImageSource]) -> int | None:
    """The usual one, of 8 to 14 bits, above which no value lies of files that all have 16 bits; None for others."""
    highest = [_highest(source) for source in sources]
    known = [value for value in highest if value is not None]
    if not known or len(known) < len(highest):
        return None
    return next((white for white in _WHITES if max(known) <= white), None)


def tell_white_level(paths: Sequence[ImageSource], known: int | None, fix: str = _TO_USE_THEM) -> None:
    """Where no white level of files is known, and the first of them leave upper bits of 16 empty, logs that.

    Args:
        paths: the files.
        known: the level that they are read with.
        fix: what to do, with {white} for the likely level.
    """
    if known is None and (white := likely_white_level(paths[:_LOOKED_AT])):
        text = "the first images have 16 bits and values of at most %d, of 65535 for white, which is nearly black: %s"
        _log.warning(text, white, fix.format(white=white))


def _highest(source: ImageSource) -> int | None:
    """The highest value of a file of 16 bits; None for another, and for what cannot be read."""
    name = source_name(source)
    if not isinstance(source, Image.Image):
        with contextlib.suppress(ImageError), reading(source, name), open_file(source, name) as file:
            array = _read_array(file, name, (find_bands(source) or (3, ""))[0], None)
            if array is not None:
                return int(array.max()) if array.dtype.kind == "u" and array.dtype.itemsize == 2 else None
            with open_image(file, name) as image:
                return int(np.asarray(image).max()) if image.mode in WIDE_GREY else None
    return None


def _read_array(file: BinaryIO, name: str, channels: int, max_pixels: int | None) -> NDArray[Any] | None:
    kind = file_kind(file)
    if kind == "npy":
        return _read_npy(file, name, max_pixels)
    return _read_tiff(file, name, max_pixels) if kind == "tiff" and channels not in (1, 3) else None


def _read_npy(file: BinaryIO, name: str, max_pixels: int | None) -> NDArray[Any]:
    shape, dtype = npy_header(file)
    axis = channel_axis(shape, name)
    _check(tuple(side for place, side in enumerate(shape) if place != axis), shape, dtype, name, max_pixels)
    file.seek(0)
    array = np.lib.format.read_array(file, allow_pickle=False)
    return array[None] if axis is None else np.moveaxis(array, axis, 0)


def _read_tiff(file: BinaryIO, name: str, max_pixels: int | None) -> NDArray[Any]:
    tifffile = extras.require("tifffile", extra="tiff")
    with extras.errors_alone("tifffile", level=logging.CRITICAL), tifffile.TiffFile(file) as tiff:
        series = tiff.series[0]  # names its axes, such as "YXS" for bands in each pixel, and leaves out those of 1
        others = [place for place, letter in enumerate(series.axes) if letter not in "YX"]
        if series.axes.replace("Y", "", 1).replace("X", "", 1) != "".join(series.axes[one] for one in others[:1]):
            raise ImageError(f"{name} has the axes {series.axes} ({series.shape}); save one image, of bands or pages")
        size = tuple(side for place, side in enumerate(series.shape) if place not in others)
        _check(size, series.shape, series.dtype, name, max_pixels)
        array: NDArray[Any] = series.asarray()
    return np.moveaxis(array, others[0], 0) if others else array[None]


def _check(
    size: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype[Any], name: str, max_pixels: int | None
) -> None:
    if 0 in shape or not (dtype.kind == "f" or dtype.kind == "u" and dtype.itemsize <= 2):
        raise ImageError(f"{name} holds {dtype} of shape {shape}; save uint8, uint16, or floats in [0, 1]")
    check_pixels(size[1], size[0], name, max_pixels, channels=math.prod(shape) // math.prod(size))


def _as_tensor(array: NDArray[Any], name: str, white_level: int | None) -> Tensor:
    """uint8 as it is; others as floats in [0, 1]."""
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array))
    values = np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind == "u":
        check_white(int(values.max()), name, white_level or _WHITEST)
        return torch.from_numpy(values / (white_level or _WHITEST))
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):  # nor NaN
        raise ImageError(f"{name} has floats from {low:.4g} to {high:.4g}; save them in [0, 1], or as uint8 or uint16")
    return torch.from_numpy(values)
