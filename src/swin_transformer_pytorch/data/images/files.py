"""Image files in folders."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from ...names import by_name
from .decode import IMAGE_SUFFIXES

INPUT_SUFFIXES = IMAGE_SUFFIXES | {".npy"}
"""Likewise of what a classifier takes."""


def find_images(folder: str | os.PathLike[str], suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[str]:
    """Paths of all images in a folder and the folders inside it, sorted; hidden ones are left out.

    Links to folders are followed, but never back into a folder that the walk is inside of, or that holds `folder`.
    Links to files count as files; what is no regular file (a pipe, a device) is passed over.
    """
    found: list[str] = []
    start = Path(os.path.realpath(folder))
    inside: dict[str, frozenset[str]] = {os.fspath(folder): frozenset(map(str, (start, *start.parents)))}
    for parent, folders, names in os.walk(folder, followlinks=True):
        above = inside.pop(parent)
        for name in folders:
            real = os.path.realpath(os.path.join(parent, name))
            if not name.startswith(".") and real not in above:
                inside[os.path.join(parent, name)] = above | {real}
        # Sorting in place is also what makes os.walk go in that order.
        folders[:] = sorted(name for name in folders if os.path.join(parent, name) in inside)
        paths = (os.path.join(parent, name) for name in sorted(names) if _ends_in(name, suffixes))
        found += [path for path in paths if os.path.isfile(path)]
    return found


def find_inputs(folder: str | os.PathLike[str]) -> list[str]:
    """Likewise what a classifier takes: where there are no images, arrays in NPY files."""
    return find_images(folder) or find_images(folder, frozenset({".npy"}))


def file_finder() -> Callable[[Path], Path | None]:
    """Looks up where files lie whose names come from elsewhere; None for one that is not there.

    File systems and annotation files may write one name in two ways, see `names`. A look into each folder is enough,
    rather than one at each file.
    """

    @functools.cache
    def folder(wanted: Path) -> tuple[Path, Callable[[str], str | None]]:
        there = wanted if wanted.is_dir() or wanted == wanted.parent else find(wanted)
        names = os.listdir(there) if there is not None and there.is_dir() else []
        return there or wanted, by_name({name: name for name in names})

    def find(path: Path) -> Path | None:
        parent, entry = folder(path.parent)
        name = entry(path.name)
        return None if name is None else parent / name

    return find


def _ends_in(name: str, suffixes: frozenset[str]) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
