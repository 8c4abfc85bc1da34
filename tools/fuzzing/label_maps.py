"""Label maps and the files of their classes: modes, sizes, values, damaged bytes, many pixels."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

from swin_transformer_pytorch.data.segmentation.source import SegmentationSource

from .case import Case, Silent, damaged, nested
from .images import png_of_zeros

_CLASSES = ("cat\ndog\ncow\n", "0 0 0 cat\n1 1 1 dog\n2 2 2 cow\n", "cat:0,0,0::\ndog:1,1,1::\ncow:2,2,2::")
_BAD_CLASSES: tuple[str, ...] = ("", "cat\ncat\n", "x" * 10**6, "\n".join(map(str, range(300))), "\0", "²²² 0 0 cat")
_BAD_CLASSES += (f"{'1' * 5000} 0 0 cat", f"cat:0,{'1' * 5000},0::\n", "999 0 0 cat\n", "0 0 0 cat\ndog\n")
_BAD_CLASSES += ("Pixel Value, Class\n1, x", f"Pixel Value, Class\n{'1' * 9000}, x")
_JSON: tuple[str, ...] = ('["cat", "dog", "cow"]', "[" * 100_000, '{"a": ' * 100_000, "1" * 5000, f"[{'1' * 5000}]")
_JSON += ("null", "", '[{"name": 5}]', '["cat"', "[true]", '[{"name": "a", "color": [0, 0, -1]}]')
_JSON += (json.dumps([nested(900)]), json.dumps({"cat": [0, 0, 10**30], "dog": [0, 0, 1]}))
_JSON += (json.dumps([{"name": "x" * 10**5, "color": nested(300)}]),)
_KINDS = ("intact", "mode", "mode", "values", "damaged", "damaged", "damaged", "classes", "json", "bomb")


def make(chance: random.Random, folder: Path) -> Case:
    images, labels, classes = folder / "images", folder / "labels", folder / "classes.txt"
    for each in (images, labels):
        each.mkdir()
    size = (48, 64)
    kind = chance.choice(_KINDS)
    mode, values, text = "L", 3, chance.choice(_CLASSES)
    if kind == "mode":
        mode = chance.choice(("1", "P", "RGB", "RGBA", "LA", "I;16"))
    elif kind == "values":
        values, size = chance.choice(((9, size), (256, size), (3, (64, 48)), (3, (1, 1)), (3, (49, 64))))
    elif kind == "classes":
        text = chance.choice((*_BAD_CLASSES, damaged(text.encode(), chance)[0].decode("latin1")))
    elif kind == "json":
        classes, text = folder / "classes.json", chance.choice(_JSON)
    classes.write_text(text)
    what = f"{kind}, {mode} {size}, values to {values}, classes {text[:20]!r}"
    array = np.random.default_rng(chance.randrange(1000)).integers(0, values, size, dtype=np.uint8)
    content = _png(array, mode)
    if kind == "damaged":
        form = chance.choice(("png", "png", "png", "jpeg", "tiff"))
        content, done = damaged(content if form == "png" else _written(Image.fromarray(array), form), chance)
        what += f", {form}: {done}"
    if kind == "bomb":
        colour, side = chance.choice(((0, 9400), (2, 9400), (3, 9400), (2, 13000), (0, 13000), (6, 9400), (0, 60_000)))
        content = png_of_zeros(side, side, colour, 1 if side == 60_000 else 8)
        both = chance.random() < 0.6
        (images / "a.png").write_bytes(content if both else _png(array, "RGB"))
        what += f", {side} square of colour type {colour}{', its image too' * both}"
    else:
        (images / "a.png").write_bytes(_png(np.zeros((48, 64), dtype=np.uint8), "RGB"))
    (labels / "a.png").write_bytes(content)

    def read() -> None:
        source = SegmentationSource(kind="folder", train=(str(images), str(labels)), classes=str(classes))
        sample = source.open("train")[0]
        if sample.labels.dtype != np.uint8 or sample.labels.shape != sample.picture.size[::-1]:
            raise Silent(f"labels {sample.labels.dtype} {sample.labels.shape}")
        if kind in ("intact", "mode") and mode in ("L", "P") and not np.array_equal(sample.labels, array):
            raise Silent("other labels than were written")

    named = ("a.png", classes.name)
    return Case(what=what, read=read, named=named, intact=kind == "intact")


def _png(array: np.ndarray, mode: str) -> bytes:
    if mode == "P":
        image = Image.fromarray(array)
        image.putpalette(bytes(range(256)) * 3)
    elif mode == "I;16":
        image = Image.fromarray(array.astype(np.uint16))
    else:
        image = Image.fromarray(array).convert(mode)
    return _written(image, "png")


def _written(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()
