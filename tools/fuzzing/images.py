"""Images of every kind that PIL writes, whole and damaged, and small files that claim to be large."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from swin_transformer_pytorch.data.images.decode import read_image
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

from .case import Case, Silent, damaged
from .checkpoints import V1

# Format, mode and options of writing.
WRITTEN: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("png", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("jpeg", mode, {"quality": 90}) for mode in ("L", "RGB", "CMYK")),
    ("jpeg", "RGB", {"progressive": True}),
    *(("webp", mode, {"lossless": True}) for mode in ("RGB", "RGBA")),
    *(("gif", mode, {}) for mode in ("L", "P", "RGB", "RGBA")),
    *(("tiff", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "I")),
    *(("tiff", "RGB", {"compression": name}) for name in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")),
    *(("bmp", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
    ("jpeg2000", "RGB", {}),
    ("avif", "RGB", {}),
    ("ico", "RGBA", {}),
    ("tga", "RGB", {}),
    ("ppm", "RGB", {}),
)
_ANIMATED = ("gif", "png", "webp", "tiff")


@functools.cache
def predictors() -> tuple[Predictor, ...]:
    """One a task, of small random models."""
    torch.manual_seed(0)
    backbone = V1.replace(single_window="keep")
    dense = DensePreprocessing(scale=(100, 48))
    descriptions = (
        ModelDescription(config=V1, num_classes=3, preprocessing=Preprocessing.imagenet(32)),
        ModelDescription(
            config=DetectorConfig(backbone=backbone, num_classes=3, fpn_dim=8, fc_dim=8, max_detections=5),
            preprocessing=dense,
        ),
        ModelDescription(
            config=SegmenterConfig(backbone=backbone, num_classes=5, decode_dim=8, auxiliary_dim=4, auxiliary_index=1),
            preprocessing=dense,
        ),
    )
    return tuple(Predictor(build(description), device="cpu") for description in descriptions)


def prepare() -> None:
    """Makes the models, for processes to share."""
    for predictor in predictors():
        predictor(Image.new("RGB", (40, 30)))


def make(chance: random.Random, folder: Path) -> Case:
    kind = chance.choice(("intact", "intact", "damaged", "damaged", "damaged", "damaged", "claim", "bomb", "junk"))
    size = None
    if kind == "bomb":
        name, content, what = bomb(chance)
    elif kind == "junk":
        name, content, what = f"{chance.choice(('a.png', 'a.jpg', 'a'))}", _junk(chance), "junk"
    else:
        name, content, what, size = _written(chance)
        if kind == "damaged":
            content, done = damaged(content, chance, most=6)
            what += f": {done}"
        elif kind == "claim":
            content, done = _claim(content, chance)
            what += f": {done}"
    path = folder / name
    path.write_bytes(content)
    source: Any = content if chance.random() < 0.2 else path
    predictor = chance.choice((None, *predictors()))
    channels = chance.choice((1, 3))

    def read() -> None:
        if predictor is not None:
            answer(predictor, source)
            return
        image = read_image(source, channels)
        if image.mode != {1: "L", 3: "RGB"}[channels] or (kind == "intact" and image.size != size):
            raise Silent(f"read as {image.mode} of {image.size}, written as {size}")
        if kind == "intact" and np.ptp(np.asarray(image)) < 30:
            raise Silent("it is of one colour")

    named = (name, f"the image of {len(content)} bytes")
    return Case(what=f"{name}, {what}", read=read, named=named, intact=kind == "intact")


def answer(predictor: Predictor, source: Any) -> None:
    """Asks for a prediction, whose numbers must be some."""
    result = predictor(source)
    for values in (getattr(result, field, ()) for field in ("scores", "boxes_xyxy")):
        if not np.isfinite(np.asarray(values)).all():
            raise Silent("the answer has no numbers")


def _written(chance: random.Random) -> tuple[str, bytes, str, tuple[int, int]]:
    """An image file, what it is, and the size (width, height) that it is to be seen at."""
    form, mode, options = chance.choice(WRITTEN)
    width, height = chance.choice(((40, 30), (33, 47), (64, 64), (1, 300), (301, 2), (700, 500)))
    if form == "ico":
        width = height = 64
    image = _picture(mode, width, height, chance.randrange(1000))
    what = f"{mode} {width}x{height} {options}"
    size = (width, height)
    if form in _ANIMATED and mode in ("L", "RGB") and chance.random() < 0.3:
        options = {**options, "save_all": True, "append_images": [image.rotate(180)] * chance.choice((1, 20))}
        what += " animated"
    elif form in ("jpeg", "png", "webp", "tiff") and mode in ("L", "RGB", "RGBA") and chance.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = turn = chance.randint(1, 8)
        options = {**options, "exif": exif}
        size = size[::-1] if turn > 4 else size
        what += f" turned {turn}"
    if mode in ("P", "L", "RGB") and form == "png" and chance.random() < 0.3:
        options = {**options, "transparency": 0 if mode != "RGB" else (0, 0, 0)}
    file = io.BytesIO()
    image.save(file, form, **options)
    return f"a.{form}", file.getvalue(), what, size


def _picture(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """A ramp with noise, so that no picture is of one colour."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, width * height).reshape(height, width, 1) + rng.integers(0, 55, (height, width, 3))
    if mode in ("I;16", "I", "F"):
        wide = ramp[:, :, 0] / 255 * (1 if mode == "F" else 65535)
        return Image.fromarray(wide.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    image = Image.fromarray(ramp.astype(np.uint8))
    return image.convert(mode)


def _claim(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A size or length in the first 300 bytes becomes another one."""
    place = chance.randrange(4, min(len(content) - 4, 300))
    value = chance.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 20_000))
    order = chance.choice("<>")
    kind = "H" if value < 1 << 16 else "I"
    written = struct.pack(order + kind, value)
    changed = content[:place] + written + content[place + len(written) :]
    if content.startswith(b"\x89PNG") and chance.random() < 0.7:
        # A header whose checksum holds, so that its size is believed.
        sizes = struct.pack(">II", *(chance.choice((1, 40, 9000, 60_000, 2**31 - 1)) for _ in range(2)))
        header = b"IHDR" + sizes + content[24:29]
        changed = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    return changed, f"{value} at {place}"


def bomb(chance: random.Random) -> tuple[str, bytes, str]:
    """Small files of many pixels: below where PIL warns, between that and its limit, over it; text without end."""
    what = chance.choice(("text", "tall", "below", "below", "between", "far over"))
    if what == "text":
        text = zlib.compress(bytes(100_000_000))
        chunk = b"zTXt" + b"Comment\0\0" + text
        content = png_of_zeros(40, 30, 2, 8)
        packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return "bomb.png", content[:33] + packed + content[33:], what
    sizes = {"tall": (2, 40_000_000), "below": (9400, 9400), "between": (10_000, 10_000), "far over": (60_000, 60_000)}
    width, height = sizes[what]
    if what == "below" and chance.random() < 0.3:
        form, mode = chance.choice((("gif", "L"), ("tiff", "F"), ("tiff", "1")))
        file = io.BytesIO()
        options = {"compression": "tiff_adobe_deflate"} if form == "tiff" else {}
        Image.new(mode, (width, height)).save(file, form, **options)
        return f"bomb.{form}", file.getvalue(), f"{what} {mode}"
    if what == "far over":
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        content = png_of_zeros(8, 8, 2, 8)
        chunk = b"IHDR" + header
        return "bomb.png", content[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:], what
    colour, bits = chance.choice(((0, 1), (0, 8), (0, 16), (2, 8), (2, 16), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)))
    return "bomb.png", png_of_zeros(width, height, colour, bits), f"{what} colour type {colour}, {bits} bits"


def png_of_zeros(width: int, height: int, colour: int, bits: int) -> bytes:
    """A PNG whose bytes are all 0, written without its pixels ever being in memory."""
    row = 1 + (width * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * bits + 7) // 8
    packer, pieces, left = zlib.compressobj(1), [], row * height
    while left:
        block = min(left, 1 << 24)
        pieces.append(packer.compress(bytes(block)))
        left -= block
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(range(6)))] if colour == 3 else []
    chunks += [(b"IDAT", b"".join(pieces) + packer.flush()), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _junk(chance: random.Random) -> bytes:
    starts: tuple[bytes, ...] = (b"", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"BM", b"text")
    starts += (
        b"RIFF\0\0\0\0WEBP",
        b"<!DOCTYPE html>",
        b"%PDF-1.7",
        b"<svg>",
        b"\0\0\0\x20ftypheic",
        b"\0\0\0\x20ftypavif",
        b"P6 99999 99999 255 ",
    )
    return chance.choice(starts) + chance.randbytes(chance.choice((0, 1, 30, 3000)))
