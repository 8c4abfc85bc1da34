"""From a file, bytes or an opened picture to an 8-bit grey or RGB image, or one error that says what to do."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from ...extras import MissingExtraError
from ..errors import ImageError

__all__ = ["IMAGE_SUFFIXES", "ImageError", "ImageSource", "read_image"]

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".ico", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tga", ".tif"}
    | {".tiff", ".webp"}
)
"""Endings that make a file in a folder count as an image. A file named outright is read whatever its name."""

TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # their first four bytes
_MODES = {1: "L", 3: "RGB"}
_LONGEST_SIDE = 1_000_000  # PIL keeps an address for each row, which may be more than the pixels
_STRIP_PIXELS = 1 << 20
_ORIENTATION = 0x0112  # in EXIF
_DRAWN_BY_PROGRAMS = ("EPS", "WMF", "EMF")  # Ghostscript runs what an EPS says, for ever if it says so
WIDE_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(
    source: ImageSource,
    channels: int = 3,
    *,
    max_pixels: int | None = None,
    white_level: int | None = None,
    scale: Literal[1, 2, 4, 8] = 1,
) -> Image.Image:
    """Reads one image as a person sees it in a viewer.

    The camera's rotation (EXIF) is applied, transparency is laid over white, 16 bits are scaled to 8, CMYK and
    palettes become colours, and of an animation the first frame is taken. What the file holds counts, not its name.

    Args:
        source: a path, a file's bytes, or an opened PIL image (which is left as it is).
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma).
        max_pixels: see `open_image`.
        white_level: the value of white in files of 16 bits, such as 4095 where 12 are used; None for their high byte.
        scale: of a JPEG file, by what both sides are divided while it is decoded, which is several times as fast; other
            files stay whole.

    Returns:
        A loaded image of mode "RGB" or "L".

    Raises:
        ImageError: the file is missing, empty, damaged, of no known format, or has more pixels than `max_pixels`, more
            than a million along a side, or values above `white_level`.
    """
    name = source_name(source)
    if channels not in _MODES:
        raise ImageError(
            f"{name} is read as grey or RGB, and cannot give {channels} channels; give the model a .npy array, a TIFF "
            "of as many bands, or a float tensor (channels, height, width) instead"
        )
    with reading(source, name):
        if isinstance(source, Image.Image):
            _check_sides(source, name)
            # The caller's picture and ours never share pixels.
            _check_colour(source, name, white_level)
            return _to_8_bit(_upright(source.copy()), _MODES[channels], name, white_level)
        with open_file(source, name) as file, open_image(file, name, max_pixels=max_pixels) as image:
            _check_colour(image, name, white_level)
            if scale > 1 and image.format == "JPEG":
                image.draft(image.mode, (image.width // scale, image.height // scale))
            return _to_8_bit(_upright(image), _MODES[channels], name, white_level)


@contextlib.contextmanager
def reading(source: ImageSource, name: str) -> Iterator[None]:
    """Makes an `ImageError` that says what to do of whatever is raised while an image is read."""
    with warnings.catch_warnings():
        # Neither damaged metadata nor a size below the limit is a reason to bother anyone.
        warnings.simplefilter("ignore")
        try:
            yield
        except (ImageError, MissingExtraError):
            raise
        except Image.UnidentifiedImageError as error:
            raise ImageError(f"{name} {_what_it_is(source)}") from error
        except Image.DecompressionBombError as error:
            raise ImageError(f"{name} is too large for PIL in its format ({error}); save it as PNG or JPEG") from error
        except MemoryError as error:
            raise ImageError(f"{name} does not fit in memory; make it smaller") from error
        # Decoders raise nearly every kind of exception on a damaged file.
        except Exception as error:
            raise ImageError(
                f"{name} is damaged or cut short ({error or type(error).__name__}); copy or export it again"
            ) from error


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) in pixels of an image file as `read_image` gives it, from its header alone, whatever they are.

    Raises:
        ImageError: the file is missing, or no header can be read.
    """
    name = source_name(path)
    try:
        with open_file(path, name) as file, open_image(file, name, max_pixels=_LONGEST_SIDE**2) as image:
            return (image.width, image.height) if _swaps_sides(image) else (image.height, image.width)
    except ImageError:
        raise
    except Exception as error:  # decoders raise nearly every kind on a damaged file
        raise ImageError(f"{name} is no image, or its header is damaged ({error}); save it again") from error


def is_turned(path: str | os.PathLike[str]) -> bool:
    """Whether an image file's rotation (EXIF) swaps its width and height; an `ImageError` where it cannot be read."""
    name = source_name(path)
    with reading(path, name), open_file(path, name) as file, open_image(file, name) as image:
        return _swaps_sides(image)


def _swaps_sides(image: Image.Image) -> bool:
    return image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)


def open_image(file: BinaryIO, name: str, *, max_pixels: int | None = None) -> Image.Image:
    """Opens an image without reading its pixels yet.

    Args:
        file: at its beginning.
        name: what to call it.
        max_pixels: the most pixels that it may have, as a guard against files that are made to fill the memory;
            None for PIL's own limit, 2 * `PIL.Image.MAX_IMAGE_PIXELS`, which is 179 million.

    Raises:
        ImageError: it has more, or more than a million along a side.
        Exception: as `PIL.Image.open`.
    """
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        try:
            image: Image.Image = Image.open(file)
        except Image.DecompressionBombError:
            image = _open_of_any_size(file)
    if image.format in _DRAWN_BY_PROGRAMS:
        raise ImageError(
            f"{name} is a drawing ({image.format}), which PIL would give to another program; export it as PNG"
        )
    check_pixels(image.width, image.height, name, max_pixels)
    _check_sides(image, name)
    return image


def check_pixels(width: int, height: int, name: str, max_pixels: int | None, channels: int = 4) -> None:
    """Raises an `ImageError` where an image has more pixels than `open_image` allows, four channels counting as one."""
    usual = None if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS
    limit = usual if max_pixels is None else max_pixels
    if limit is not None and width * height * max(1, channels / 4) > limit:
        raise ImageError(
            f"{name} has {width} x {height} pixels{f' of {channels} channels' * (channels > 4)}, more than {limit:,}, "
            "the limit against files that are made to fill the memory; make it smaller, or if you trust it raise "
            "max_pixels (--data.max_pixels of swin train and swin evaluate, --max-pixels of swin predict and swin web)"
        )


def _check_sides(image: Image.Image, name: str) -> None:
    if max(image.size) > _LONGEST_SIDE:
        raise ImageError(f"{name} has a side of more than {_LONGEST_SIDE:,} pixels; cut it into pieces")


def _open_of_any_size(file: BinaryIO) -> Image.Image:
    """`Image.open` without its limit, which is one for the whole process and all of its threads, so it stays as it is.

    Readers that look at the limit themselves, WebP's and TIFF's, still raise `DecompressionBombError`, maybe later.
    """
    file.seek(0)
    start = file.read(16)
    for make, accepts in map(Image.OPEN.__getitem__, Image.ID):
        taken = accepts is None or accepts(start)
        if taken and not isinstance(taken, str):  # a text says why it does not
            file.seek(0)
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # as `Image.open` does
                return make(file, "")
    raise Image.UnidentifiedImageError


def source_name(source: ImageSource) -> str:
    """What messages call an image; an `ImageError` for what can be none."""
    if filename := getattr(source, "filename", ""):  # of a PIL image that was opened, or of bytes that were fetched
        return str(filename)
    if isinstance(source, Image.Image):
        return f"the PIL image (mode {source.mode}, {source.width} x {source.height})"
    if isinstance(source, bytes | bytearray | memoryview):
        return f"the image of {len(source)} bytes"
    if isinstance(source, str | os.PathLike) and os.fspath(source):
        return os.fspath(source)
    if source == "":
        raise ImageError("the image's path is empty; give a file's path")
    raise ImageError(f"an image cannot be read from a {type(source).__name__}; give a path, bytes or a PIL image")


def open_file(source: str | os.PathLike[str] | bytes | bytearray | memoryview, name: str) -> BinaryIO:
    """An image file at its beginning; an `ImageError` says why it cannot be opened."""
    if isinstance(source, bytes | bytearray | memoryview):
        if len(source) == 0:
            raise ImageError(f"{name} is empty; give the whole content of an image file")
        return io.BytesIO(source)
    path = Path(source)
    try:
        size = path.stat().st_size
        if not (path.is_file() or path.is_dir()):
            raise ImageError(f"{name} is no regular file (a pipe or a device); give an image file")
        if path.is_dir():
            raise ImageError(f"{name} is a folder; give the files in it, or the pattern {path / '*'}")
        if size == 0 and path.is_file():
            raise ImageError(f"{name} is empty (0 bytes); copy or download it again")
        return path.open("rb")
    except FileNotFoundError as error:
        hint = "download it first" if "://" in name else f"check the path (looked from {Path.cwd()})"
        raise ImageError(f"{name} does not exist; {hint}") from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read; change its permissions") from error


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    # Where it fails, the picture is fine; only its metadata is not.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_8_bit(image: Image.Image, mode: str, name: str, white_level: int | None) -> Image.Image:
    if image.mode in WIDE_GREY:
        image = _narrow(image, name, white_level)
    elif image.mode == "F":
        values = np.asarray(image)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageError(f"{name} has float pixels beyond [0, 1], whose white is unknown; save it with 8 bits")
        image = Image.fromarray(np.round(values * 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = _on_white(image, mode)
    result = image.convert(mode) if image.mode != mode else image
    result.info.clear()  # what the file said about itself has been dealt with
    return result


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """In strips, since of a large picture each copy counts."""
    result = Image.new(mode, image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        result.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert(mode), (0, top))
    return result


def _narrow(image: Image.Image, name: str, white_level: int | None) -> Image.Image:
    """16 bits of grey to 8 by a white level, or by their high byte, as PIL itself does with 16 bits of colour."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{name} has 32-bit pixels beyond 0 to 65535, whose white is unknown; save it with 8 bits")
    if white_level is None:
        narrow = values >> 8
    else:
        check_white(int(values.max()), name, white_level)
        narrow = (values.astype(np.int64) * 255 + white_level // 2) // white_level
    grey = Image.fromarray(narrow.astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def check_white(highest: int, name: str, white_level: int) -> None:
    """Raises an `ImageError` where a file has values above its white level."""
    if highest > white_level:
        raise ImageError(
            f"{name} has values up to {highest:,}, above the white level of {white_level:,}; train with the true one "
            "(--data.white_level, null for 65,535), or leave the file out"
        )


def _check_colour(image: Image.Image, name: str, white_level: int | None) -> None:
    """PIL gives the high byte alone of 16 bits of colour."""
    if white_level is not None and image.mode not in WIDE_GREY and ";16" in str(getattr(image, "tile", "")):
        raise ImageError(
            f"{name} has 16 bits of colour, of which PIL reads 8, so that its white level of {white_level:,} is not to "
            "be had; save it with 8 bits"
        )


def _what_it_is(source: ImageSource) -> str:
    """For a file that no decoder knows: what it seems to hold, and what to do."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as stream:
            head = stream.read(512)
    else:
        head = b"" if isinstance(source, Image.Image) else bytes(source[:512])
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "is a HEIC picture, which PIL cannot read; save it as JPEG or PNG (or install and register pillow-heif)"
    if head[:4] == b"\x1aE\xdf\xa3" or head[4:8] == b"ftyp" or head[8:12] == b"AVI ":
        return "is a video, or a picture in a video's container, which PIL cannot read; `swin video` takes videos"
    if b"<svg" in head:
        return "is an SVG drawing, not an image of pixels; export it as PNG"
    if head[:5] == b"%PDF-":
        return "is a PDF document; export the page as PNG"
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "holds a web page, not an image: the download went wrong; download it again"
    if head[:6] == b"\x93NUMPY":
        return "is a NumPy array, and a picture is needed here; save it as PNG"
    if head[:4] in TIFFS:
        return "is a TIFF that PIL cannot read: it is damaged, or has bands, which a model of as many channels takes"
    if not head.translate(None, delete=bytes(range(32, 127)) + b"\t\n\r"):
        return "holds text, not an image; check what was saved under this name"
    return "is no image of a known format, or its beginning is damaged; save it as JPEG or PNG"
