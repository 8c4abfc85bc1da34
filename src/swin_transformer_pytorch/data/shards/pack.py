"""Packing image files into shards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...whole import write_text
from ..errors import DataError
from ..images.unusable import Unusable
from .index import Manifest, Shard, as_columns, file_sha256, write_manifest, write_part
from .places import CLASSES, MANIFEST
from .tars import write_tar

_LARGEST = 2**32 - 1

Progress = Callable[[Iterable[int], int, str], Iterable[int]]
"""Shows how far a loop has come: (items, how many, what is done) to the items."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """The image files of a part.

    Attributes:
        paths: theirs.
        labels: the class index of each; None for images without labels.
    """

    paths: Sequence[str | os.PathLike[str]]
    labels: NDArray[Any] | None = None


def check_free(folder: Path) -> None:
    """Raises a `DataError` where a folder to be written holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        holds = "holds shards" if (folder / MANIFEST).exists() else "is no empty folder"
        raise DataError(f"{folder} {holds}; give a new one, or remove what an unfinished packing has left there")


def pack(
    parts: Mapping[str, Files],
    root: Path,
    folder: Path,
    *,
    classes: Sequence[str] = (),
    seed: int = 0,
    shard_bytes: int = 100_000_000,
    progress: Progress = lambda items, total, what: items,
) -> tuple[Manifest, Unusable]:
    """Writes shards of image files, each part's in random order, and their index, which comes last.

    Files go in as they are, whether they can be decoded or not. In the tar file a file is called by its number and its
    path below `root`, in the name of which a dot is a _, since what follows a dot is an ending there.

    Args:
        parts: the files by part.
        root: the folder that they are in.
        folder: where the shards go, made where it is missing; it must be empty.
        classes: class names by index; none for images without labels.
        seed: of the order.
        shard_bytes: content of a shard, after which the next begins.
        progress: see `Progress`.

    Returns:
        What was written, and the files that could not be read, each of which was named.

    Raises:
        DataError: the folder is not empty, or more than a fifth of the files cannot be read.
    """
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unusable = Unusable(sum(len(files.paths) for files in parts.values()), "images")
    written = {}
    for number, (part, files) in enumerate(parts.items()):
        order = np.random.default_rng([seed, number]).permutation(len(files.paths))
        places = iter(progress(order.tolist(), len(order), f"packing {part}"))
        samples = _read(places, files, root, unusable)
        shards: list[Shard] = []
        columns = []
        while (first := next(samples, None)) is not None:
            path = folder / f"{part}-{len(shards):06d}.tar"
            rows = write_tar(path, _until(first, samples, shard_bytes))
            shards.append(Shard(name=path.name, size=path.stat().st_size, images=len(rows), sha256=file_sha256(path)))
            columns.append(as_columns(rows))
        if not shards:
            raise DataError(f"none of the {len(order)} images for {part!r} in {root} can be read")
        written[part] = write_part(folder, part, shards, columns)
    if classes:
        write_text(folder / CLASSES, "".join(f"{name}\n" for name in classes))
    manifest = Manifest(classes=tuple(classes), parts=written)
    write_manifest(folder, manifest)
    return manifest, unusable


Sample = tuple[str, bytes, int | None]


def _until(first: Sample, samples: Iterator[Sample], most: int) -> Iterator[Sample]:
    """A shard's: the first, and others until there are so many bytes."""
    sample: Sample | None = first
    count = 0
    while sample is not None:
        yield sample
        count += len(sample[1])
        sample = next(samples, None) if count < most else None


def _read(places: Iterable[int], files: Files, root: Path, unusable: Unusable) -> Iterator[Sample]:
    number = 0
    for place in places:
        path = files.paths[place]
        try:
            with open(path, "rb") as file:
                content = file.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise OSError("it has more than 4 GB")
        except OSError as error:
            unusable.usable([f"{os.fspath(path)} cannot be packed ({error.strerror or error})"])
            continue
        yield f"{number:08d}/{_name(path, root)}", content, None if files.labels is None else int(files.labels[place])
        number += 1


def _name(path: str | os.PathLike[str], root: Path) -> str:
    relative = PurePath(os.path.relpath(path, root))
    stem = relative.stem.replace(".", "_")
    return relative.with_name(f"{stem}{relative.suffix.lower()}").as_posix()
