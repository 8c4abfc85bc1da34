"""Image files in folders."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ...names import by_name
from .decode import IMAGE_SUFFIXES

INPUT_SUFFIXES = IMAGE_SUFFIXES | {".npy"}
"""Likewise of what models take."""

_log = logging.getLogger(__name__)


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
    """Likewise what models take: images, or, where there are none, arrays in NPY files.

    Arrays beside images are passed over, which is logged by count.
    """
    taken, passed_over = split_inputs(find_images(folder, INPUT_SUFFIXES))
    tell_arrays(folder, passed_over)
    return taken


def split_inputs(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is taken of images and arrays, and what is not: the arrays, where there are images."""
    images = [path for path in paths if not path.lower().endswith(".npy")]
    return images or [*paths], [path for path in paths if path.lower().endswith(".npy")] if images else []


def tell_arrays(folder: str | os.PathLike[str], passed_over: Sequence[str]) -> None:
    if passed_over:
        some = f"{len(passed_over):,} arrays, such as {passed_over[0]}"
        _log.warning("%s: %s, lie beside images and are passed over; part them from images to use them", folder, some)


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
