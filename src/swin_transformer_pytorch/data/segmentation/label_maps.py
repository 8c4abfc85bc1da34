"""Label maps in PNG files: class indices as grey or palette pixels, or classes as colours; numbers of objects."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from ...colours import Colour
from ..errors import DataError, ImageError
from ..images.decode import open_image

"""The label of pixels that count neither in training nor in evaluation."""


class _Meaning(NamedTuple):
    """What messages call a PNG, and what should be saved in it."""

    name: str
    fix: str


_LABELS = _Meaning("label map", "class indices as a grey or palette PNG of 8 bits")
_NUMBERS = _Meaning("instance map", "the number of each pixel's object as a grey PNG of 8 or 16 bits")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3  # colour types of a PNG's header
_CHUNK_PIXELS = 1 << 20  # whose colours are looked up at once, which takes 20 bytes a pixel


def check_label_file(path: str | os.PathLike[str]) -> None:
    """Raises a `DataError` unless a file begins as a PNG of at most 8 bits a channel does; it is not read further."""
    with _open(Path(path), _LABELS) as file:
        _refuse_16_bits(_read_header(file, Path(path), _LABELS)[0], Path(path))


def read_label_map(
    path: str | os.PathLike[str], palette: tuple[Colour, ...] | None = None, *, max_pixels: int | None = None
) -> UInt8[np.ndarray, "H W"]:
    """Reads the label of each pixel as the file has it.

    Of palette PNGs the indices count, whatever the colours; of grey ones the stored values, with 1, 2 or 4 bits too.
    Colour PNGs need `palette`: each pixel's label is the place of its colour there; transparency is passed over.

    Raises:
        DataError: the file is missing, is no PNG, has 16 bits, is damaged, or has colours and there is no palette, or
            colours that it lacks or has twice.
        ImageError: it has more than `max_pixels`, see `images.decode.open_image`.
    """
    path = Path(path)
    image, bits, kind = _decoded(path, _LABELS, max_pixels)
    _refuse_16_bits(bits, path)
    if kind in (_PALETTE, _GREY):
        return _values(image, bits, kind)
    if palette is None:
        raise DataError(
            f"the label map {path} has colours (mode {image.mode}), and none are known for the classes; "
            'write "red green blue name" lines into the classes file, or save class indices as a grey or palette PNG'
        )
    return _from_colours(image, palette, path)


def read_numbers(path: str | os.PathLike[str], *, max_pixels: int | None = None) -> Int32[np.ndarray, "H W"]:
    """Reads the number that each pixel of an instance PNG has, of 16 bits or fewer, grey or of a palette.

    Raises:
        DataError: the file is missing, is no PNG, is damaged, or has colours.
        ImageError: it has more than `max_pixels`, see `images.decode.open_image`.
    """
    path = Path(path)
    image, bits, kind = _decoded(path, _NUMBERS, max_pixels)
    if kind not in (_PALETTE, _GREY):
        raise DataError(f"the {_NUMBERS.name} {path} has colours (mode {image.mode}); save {_NUMBERS.fix}")
    return np.array(image, dtype=np.int32) if bits == 16 else _values(image, bits, kind).astype(np.int32)


def _decoded(path: Path, what: _Meaning, max_pixels: int | None) -> tuple[Image.Image, int, int]:
    """The picture in a PNG, its bits a channel and its colour type."""
    with _open(path, what) as file:
        bits, kind = _read_header(file, path, what)
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with open_image(file, f"the {what.name} {path}", max_pixels=max_pixels) as image:
                    image.load()
            except ImageError:
                raise
            # Decoders raise nearly every kind of exception on a damaged file.
            except Exception as error:
                raise DataError(f"the {what.name} {path} is damaged or cut short ({error}); export it again") from error
    return image, bits, kind


def _values(image: Image.Image, bits: int, kind: int) -> UInt8[np.ndarray, "H W"]:
    if kind == _PALETTE:
        return np.array(image, dtype=np.uint8)
    values = np.array(image.convert("L") if image.mode != "1" else image, dtype=np.uint8)
    # PIL spreads 2 and 4 bits of grey over 0 to 255.
    return values // np.uint8(255 // (2**bits - 1)) if bits in (2, 4) else values


def _refuse_16_bits(bits: int, path: Path) -> None:
    if bits == 16:
        raise DataError(
            f"the label map {path} is a PNG of 16 bits; save class indices with 8 bits "
            "(numbers of instances are no classes)"
        )


def _open(path: Path, what: _Meaning) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"the {what.name} {path} cannot be read ({error.strerror or error})") from error


def _read_header(file: BinaryIO, path: Path, what: _Meaning) -> tuple[int, int]:
    """Bits a channel and colour type."""
    head = file.read(26)
    if head[:8] != _SIGNATURE or len(head) < 26:
        found = "a JPEG, whose compression changes labels" if head[:2] == b"\xff\xd8" else "no PNG"
        raise DataError(f"the {what.name} {path} is {found}; save {what.fix}")
    return head[24], head[25]


def _from_colours(image: Image.Image, palette: tuple[Colour, ...], path: Path) -> UInt8[np.ndarray, "H W"]:
    weights = np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    known = np.array(palette, dtype=np.int32) @ weights
    order = np.argsort(known, kind="stable")
    ordered = known[order]
    if (ordered[1:] == ordered[:-1]).any():
        twice = int(ordered[1:][ordered[1:] == ordered[:-1]][0])
        raise DataError(
            f"the label map {path} has colours, of which {_colour(twice)} stands for several classes; give each its own"
        )
    labels = np.empty((image.height, image.width), dtype=np.uint8)
    strange = np.zeros(labels.shape, dtype=np.bool_)
    rows = max(1, _CHUNK_PIXELS // image.width)
    for start in range(0, image.height, rows):
        part = slice(start, min(start + rows, image.height))
        pixels = np.asarray(image.crop((0, part.start, image.width, part.stop)).convert("RGB"))
        keys = pixels.astype(np.int32) @ weights
        places = np.searchsorted(ordered, keys).clip(0, len(ordered) - 1)
        labels[part], strange[part] = order.astype(np.uint8)[places], ordered[places] != keys
    if strange.any():
        y, x = (int(place) for place in np.unravel_index(strange.argmax(), strange.shape))
        raise DataError(
            f"the label map {path} has the colour {image.convert('RGB').getpixel((x, y))} at x={x}, y={y} "
            f"({int(strange.sum())} such pixels), which is that of no class; add it to the classes file"
        )
    return labels


def _colour(key: int) -> Colour:
    return key >> 16, key >> 8 & 255, key & 255
