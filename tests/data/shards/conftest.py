"""Photos in folders, shards of them, and a store on loopback that is slow, fails, or changes what it has."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.flaky_store import FlakyStore, serving

from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.shards.index import Manifest
from swin_transformer_pytorch.data.shards.pack import Files, pack


def picture(seed: int, size: tuple[int, int] = (20, 24)) -> bytes:
    """A PNG of noise, about 1.5 kB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def fill(root: Path, **counts: int) -> Path:
    """Class folders of so many pictures, all different."""
    number = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            (root / name / f"{index}.png").write_bytes(picture(number))
            number += 1
    return root


def pack_folder(root: Path, out: Path, *, shard_bytes: int = 10_000, seed: int = 0) -> Manifest:
    """Shards of about seven of these pictures, parted as training parts the folder."""
    train = ImageFolder(root, "train")
    parts = {
        name: Files(paths=one.paths, labels=one.labels) for name, one in (("train", train), ("val", train.part("val")))
    }
    return pack(parts, root, out, classes=train.classes, seed=seed, shard_bytes=shard_bytes)[0]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos", cat=30, dog=20, owl=25)


@pytest.fixture
def shards(photos: Path, tmp_path: Path) -> Path:
    pack_folder(photos, tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture
def store(shards: Path) -> Iterator[FlakyStore]:
    with serving(shards) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are short."""
    monkeypatch.setattr("swin_transformer_pytorch.data.stores._FIRST_PAUSE", 0.001)


Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture
def until() -> Wait:
    """Waits for something, at most a minute."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "it has not happened"
            time.sleep(0.01)

    return wait
