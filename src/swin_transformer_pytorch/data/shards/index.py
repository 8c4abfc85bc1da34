"""Which images lie where in shards: `shards.json`, and beside it an array of 16 bytes an image for each part."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checks import is_count
from ...whole import replacing, write_text
from .errors import ShardError
from .places import MANIFEST

FORMAT = "swin shards 1"
BLOCK = 512
"""Bytes of a tar file's blocks, at which everything in it begins."""

NO_LABEL = -1
_ROWS = 4  # block, size, checksum, label


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A tar file.

    Attributes:
        name: its path below the shards' folder.
        size: bytes.
        images: how many it holds.
        sha256: of its content.
    """

    name: str
    size: int
    images: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the data, such as "train": its shards, and the array of where its images are.

    Attributes:
        index: the array's file, below the manifest's folder.
        sha256: of its content.
        shards: in the order of the array.
    """

    index: str
    sha256: str
    shards: tuple[Shard, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `shards.json` says.

    Attributes:
        classes: class names by index; none for images without labels.
        parts: by name: "train", "val", "test".
        base: the folder or address where the shards are; None for where the manifest is.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    base: str | None = None


Rows = Sequence[tuple[int, int, int, int]]
"""(offset in bytes, size, CRC-32, label or -1) of images of one shard."""


def as_columns(rows: Rows) -> NDArray[np.uint32]:
    """(4, images): first block, size, checksum, label. Images are below 4 GB, in shards below 2 TB."""
    values = [(offset // BLOCK, size, checksum, label % 2**32) for offset, size, checksum, label in rows]
    return np.array(values, dtype=np.uint32).reshape(-1, _ROWS).T


def write_part(folder: Path, part: str, shards: Sequence[Shard], columns: Sequence[NDArray[np.uint32]]) -> Part:
    """Writes the array of a part into a folder."""
    path = folder / f"{part}.index.npy"
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate(columns, axis=1), allow_pickle=False)
    return Part(index=path.name, sha256=file_sha256(path), shards=tuple(shards))


def file_sha256(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ShardIndex:
    """The array of a part, mapped and not read: every process shares the system's copy, also those that are not forked.

    Raises:
        ShardError: it is not that of these shards and classes.
    """

    def __init__(self, path: Path, part: Part, num_classes: int) -> None:
        self._path, self.shards = path, part.shards
        self.starts = np.concatenate([[0], np.cumsum([shard.images for shard in part.shards], dtype=np.int64)])
        self._map()
        if self._columns.shape != (_ROWS, len(self)) or self._columns.dtype != np.uint32:
            raise ShardError(f"{path} is not the index of its {len(part.shards)} shards; run `swin shards` again")
        low, high = (int(self.labels.min()), int(self.labels.max())) if len(self) else (NO_LABEL, NO_LABEL)
        if low < (0 if num_classes else NO_LABEL) or high >= max(num_classes, 0):
            raise ShardError(
                f"{path} has labels from {low} to {high} for {num_classes} classes; run `swin shards` again"
            )

    def _map(self) -> None:
        try:
            # A plain view of the mapping: looking into it takes a third of the time.
            self._columns = np.asarray(np.load(self._path, mmap_mode="r", allow_pickle=False))
        except FileNotFoundError as error:
            raise ShardError(f"{self._path} is missing; copy it, or run `swin shards` again") from error
        except (ValueError, OSError, EOFError) as error:
            raise ShardError(f"{self._path} is no array or is cut short ({error}); copy it again") from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_columns"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def labels(self) -> NDArray[np.int32]:
        """The class index of each image, -1 for none."""
        labels: NDArray[np.int32] = self._columns[3].view(np.int32)
        return labels

    def member(self, place: int) -> tuple[int, int, int, int]:
        """(shard, offset in bytes, size, checksum) of an image."""
        shard = int(np.searchsorted(self.starts, place, side="right")) - 1
        block, size, checksum, _ = self._columns[:, place].tolist()
        return shard, block * BLOCK, size, checksum

    def contents(self, places: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Size and checksum of images as one number: those of one content have the same."""
        sizes, checksums = (self._columns[row][places].astype(np.uint64) for row in (1, 2))
        return sizes << np.uint64(32) | checksums


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes it, which makes the shards usable: so it comes last."""
    parts = {
        name: {
            "index": part.index,
            "sha256": part.sha256,
            "shards": [[shard.name, shard.size, shard.images, shard.sha256] for shard in part.shards],
        }
        for name, part in manifest.parts.items()
    }
    values = {"format": FORMAT, "base": manifest.base, "classes": [*manifest.classes], "parts": parts}
    write_text(folder / MANIFEST, json.dumps(values, ensure_ascii=False, indent=1) + "\n")


def read_manifest(text: str, of: str) -> Manifest:
    """What a manifest says; `of` is what messages call it.

    Raises:
        ShardError: it is none, is of a later format, or names files outside of its folder.
    """
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise ShardError(
                f"{of} has the format {values['format']!r:.60}, and {FORMAT!r} is read; update the package"
            )
        parts = {str(name): _part(part) for name, part in values["parts"].items()}
        classes, base = tuple(map(str, values["classes"])), values["base"]
        if not parts or not (base is None or isinstance(base, str)):
            raise ValueError("it names no part")
        if len(set(classes)) < len(classes):
            raise ValueError("it names a class twice")
    except ShardError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError(f"{of} is damaged or no index of shards ({error!r}); run `swin shards` again") from error
    return Manifest(classes=classes, parts=parts, base=base)


def _part(values: Any) -> Part:
    shards = tuple(
        Shard(name=_inside(name), size=_whole(size), images=_whole(images), sha256=_digest(sha256))
        for name, size, images, sha256 in values["shards"]
    )
    return Part(index=_inside(values["index"]), sha256=_digest(values["sha256"]), shards=shards)


def _inside(name: Any) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "://" in name:
        raise ValueError(f"{name!r:.100} lies outside")
    return str(name)


def _whole(value: Any) -> int:
    if not is_count(value, 0, 2**53):
        raise ValueError(f"{value!r:.60} is no count")
    return int(value)


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{value!r:.80} is no sha256")
    return value
