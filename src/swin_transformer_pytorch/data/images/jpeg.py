"""JPEGs by torchvision's decoder, which gives Pillow's bytes in less time; whatever is unusual is left to Pillow."""

from __future__ import annotations

import contextlib
import functools
import io
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, features
from torchvision.io import ImageReadMode, decode_jpeg

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
    """The pixels that Pillow gives, upright; None where this decoder cannot be used or finds the file damaged."""
    if not decoders_agree():
        return None
    pixels = _decoded(data, header.components)
    return None if pixels is None else _TURNS[header.orientation](pixels)


@functools.cache
def decoders_agree() -> bool:
    """Whether torchvision's decoder is there, and gives of small pictures what the installed Pillow gives."""
    if not features.check_feature("libjpeg_turbo"):
        return False
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((52, 37), Image.Resampling.BICUBIC)
    for subsampling, progressive in ((0, False), (1, True), (2, False), (2, True)):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=80, subsampling=subsampling, progressive=progressive)
        pixels = _decoded(file.getvalue(), 3)
        if pixels is None or not np.array_equal(pixels, np.asarray(Image.open(file))):
            return False
    return True


def _decoded(data: bytes, components: int) -> UInt8[np.ndarray, "H W C"] | None:
    writable = np.frombuffer(bytearray(data), dtype=np.uint8)  # torch warns of what is not
    mode = ImageReadMode.GRAY if components == 1 else ImageReadMode.RGB
    try:
        # Its rows are those of pixels, seen with the channels first.
        pixels: UInt8[np.ndarray, "H W C"] = decode_jpeg(torch.from_numpy(writable), mode=mode).permute(1, 2, 0).numpy()
    except RuntimeError:
        return None
    return pixels


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
