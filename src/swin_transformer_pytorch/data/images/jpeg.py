"""JPEGs by a decoder that gives Pillow's bytes in less time; whatever is unusual is left to Pillow.

That is simplejpeg (extra [jpeg]), torchcodec, or torchvision's, the first that is installed: all are libjpeg-turbo, as
Pillow is, without its copies. torchvision's is to be removed from a later version.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, features
from torch import Tensor

from ...sizes import Size

_ORIENTATION = 0x0112  # in EXIF
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive, in Huffman's code
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The views of an array (height, width, channels) that show it upright, by EXIF's number for how it was held.
_TURNS = {
    1: lambda array: array,
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.swapaxes(0, 1),
    6: lambda array: array.swapaxes(0, 1)[:, ::-1],
    7: lambda array: array.swapaxes(0, 1)[::-1, ::-1],
    8: lambda array: array.swapaxes(0, 1)[::-1],
}


@dataclass(frozen=True, kw_only=True)
class JpegHeader:
    """What the beginning of a usual JPEG says.

    Attributes:
        size: (height, width) in pixels, as they are stored.
        components: 1 for grey, 3 for colours.
        orientation: EXIF's number for how the camera was held, 1 to 8.
    """

    size: Size
    components: int
    orientation: int

    @property
    def upright_size(self) -> Size:
        """(height, width) as a viewer shows it."""
        height, width = self.size
        return (width, height) if self.orientation >= 5 else self.size


def read_header(data: bytes) -> JpegHeader | None:
    """The header of a JPEG of 8 bits, grey or of colours; None for any other file, and for one that is out of order."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    place, described = 2, False
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        part = data[place + 4 : place + 2 + length]
        if marker in _FRAMES and len(part) >= 6:
            precision, components = part[0], part[5]
            size = int.from_bytes(part[1:3], "big"), int.from_bytes(part[3:5], "big")
            if precision != 8 or components not in (1, 3) or 0 in size:
                return None
            orientation = _orientation(data) if described else 1
            return (
                None if orientation is None else JpegHeader(size=size, components=components, orientation=orientation)
            )
        if marker in _OTHER_FRAMES or not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= 0xDA or length < 2:
            return None
        if marker == 0xEE and part[:5] == b"Adobe" and part[11:12] != b"\x01":  # not the usual YCbCr
            return None
        if marker == 0xE2 and part[:4] == b"MPF\0":  # several pictures
            return None
        described = described or marker == 0xE1  # EXIF or XMP
        place += 2 + length
    return None


def decode(data: bytes, header: JpegHeader) -> UInt8[np.ndarray, "H W C"] | None:
    """The pixels that Pillow gives, upright; None where only Pillow can be used, or the file is found damaged."""
    found = decoder()
    if found is None:
        return None
    pixels = found.decode(data, header.components)
    return None if pixels is None else _TURNS[header.orientation](pixels)


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What reads usual JPEGs.

    Attributes:
        name: of the library.
        decode: a file's bytes and its components, 1 or 3, to its pixels, or to None where it is damaged.
    """

    name: str
    decode: Callable[[bytes, int], UInt8[np.ndarray, "H W C"] | None]


@functools.cache
def decoder() -> Decoder | None:
    """The first library that is installed and gives of small pictures what the installed Pillow gives; else None."""
    if not features.check_feature("libjpeg_turbo"):
        return None
    for name, make in (("simplejpeg", _simplejpeg), ("torchcodec", _torchcodec), ("torchvision", _torchvision)):
        # A library may be there and not load, for want of another.
        with contextlib.suppress(ImportError, OSError, RuntimeError, AttributeError):
            made = Decoder(name=name, decode=make())
            if _agrees(made):
                return made
    return None


def _agrees(made: Decoder) -> bool:
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((52, 37), Image.Resampling.BICUBIC)
    for subsampling, progressive in ((0, False), (1, True), (2, False), (2, True)):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=80, subsampling=subsampling, progressive=progressive)
        pixels = made.decode(file.getvalue(), 3)
        if pixels is None or not np.array_equal(pixels, np.asarray(Image.open(file))):
            return False
    return True


def _simplejpeg() -> Callable[[bytes, int], UInt8[np.ndarray, "H W C"] | None]:
    import simplejpeg

    def decoded(data: bytes, components: int) -> UInt8[np.ndarray, "H W C"] | None:
        try:
            pixels: UInt8[np.ndarray, "H W C"] = simplejpeg.decode_jpeg(data, "GRAY" if components == 1 else "RGB")
        except ValueError:
            return None
        return pixels

    return decoded


def _torchcodec() -> Callable[[bytes, int], UInt8[np.ndarray, "H W C"] | None]:
    from torchcodec.decoders import decode_jpeg

    return functools.partial(_by_torch, decode_jpeg)


def _torchvision() -> Callable[[bytes, int], UInt8[np.ndarray, "H W C"] | None]:
    from torchvision.io import ImageReadMode, decode_jpeg

    def decoded(data: Tensor, *, mode: str) -> Tensor:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the others come first
            pixels: Tensor = decode_jpeg(data, mode=ImageReadMode[mode])
        return pixels

    return functools.partial(_by_torch, decoded)


def _by_torch(decode_jpeg: Any, data: bytes, components: int) -> UInt8[np.ndarray, "H W C"] | None:
    writable = np.frombuffer(bytearray(data), dtype=np.uint8)  # torch warns of what is not
    try:
        pixels = decode_jpeg(torch.from_numpy(writable), mode="GRAY" if components == 1 else "RGB")
    except RuntimeError:
        return None
    # Its rows are those of pixels, seen with the channels first.
    array: UInt8[np.ndarray, "H W C"] = pixels.permute(1, 2, 0).numpy()
    return array


def _orientation(data: bytes) -> int | None:
    """As Pillow reads it, from EXIF or XMP; None where Pillow knows the file for something else."""
    with contextlib.suppress(Exception):
        with Image.open(io.BytesIO(data)) as image:
            if image.format != "JPEG":
                return None
            found = 1
            with contextlib.suppress(Exception):  # only its metadata is damaged
                found = image.getexif().get(_ORIENTATION, 1)
            return found if found in _TURNS else 1
    return None
