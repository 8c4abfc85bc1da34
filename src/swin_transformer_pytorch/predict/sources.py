"""What many processes predict for: files, tar files of images, addresses and stores; how they are found, and read."""

from __future__ import annotations

import glob
import io
import itertools
import os
import tarfile
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO

from ..addresses import is_address
from ..checks import plural
from ..data.errors import ImageError, MissingFileError, StoreError
from ..data.images.decode import ImageSource
from ..data.images.files import INPUT_SUFFIXES, split_inputs, tell_arrays
from ..data.images.files import find_images as find_below
from ..data.images.remote import FetchedImage, fetched
from ..data.stores import failure_of, fetch_file, file_system
from .files import find_images

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
"""Endings of files that hold images: webdataset's shards, or any other tar files."""

_READERS = 8  # threads that ask a store, or a server
_AHEAD = 2 * _READERS

Found = tuple[str, ImageError | None]


def is_store(source: str) -> bool:
    """Whether it is the address of an object store or another file system, such as s3://bucket/photos."""
    return "://" in source and not is_address(source)


def is_tar(source: str) -> bool:
    return source.lower().endswith(TAR_SUFFIXES)


def is_elsewhere(source: str) -> bool:
    """Whether it is no image file on this machine: in a store, at an address, or in a tar file."""
    return "://" in source or is_tar(source)


def find_sources(patterns: Sequence[str | os.PathLike[str]]) -> Iterator[Found]:
    """(file or address, None) for each image and tar file that the patterns stand for, each once.

    Patterns are those of `find_images`, whose folders may hold tar files too, and folders, files and globs in stores.
    One that stands for nothing comes with an `ImageError` of its own.

    Raises:
        StoreError: a store cannot be opened or listed.
    """
    seen: set[str] = set()
    for pattern in dict.fromkeys(os.fspath(one) for one in patterns):
        if is_store(pattern):
            for name, problem in _in_store(pattern):
                if name not in seen:
                    seen.add(name)
                    yield name, problem
            continue
        found, tars = list(find_images([pattern], seen)), _tars_below(pattern, seen)
        yield from ((path, problem) for path, problem in found if problem is None or not tars)
        yield from ((path, None) for path in tars)


def images_of(sources: Iterable[Found]) -> Iterator[tuple[str, ImageSource | ImageError]]:
    """The images of files, tar files and addresses, in order: each one's name, and what `Predictor` reads or an error.

    A tar file's image is called by the tar file's name and its own. What of a tar file cannot be read is one error,
    called by the tar file's name.

    Raises:
        StoreError: a store or a server fails, which is no image's fault, in all of six tries.
    """
    for tar, group in itertools.groupby(sources, lambda source: source[1] is None and is_tar(source[0])):
        if tar:
            for name, _ in group:
                yield from _members(name)
        else:
            yield from _ahead(_loose, group)


def _tars_below(pattern: str, seen: set[str]) -> list[str]:
    """Tar files in the folders that a pattern stands for."""
    if is_address(pattern):
        return []
    matches = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern, recursive=True))
    endings = frozenset({".tar", ".tgz", ".gz"})
    below = (find_below(match, endings) for match in matches if os.path.isdir(match))
    found = [path for path in itertools.chain.from_iterable(below) if is_tar(path)]
    new = [path for path in found if os.path.realpath(path) not in seen]
    seen |= set(map(os.path.realpath, new))
    return new


def _in_store(url: str) -> list[Found]:
    system, path = file_system(url)
    fixed = path
    try:
        if glob.has_magic(path):
            fixed = path[: path.rfind("/", 0, next(at for at, sign in enumerate(path) if sign in "*?[")) + 1]
            found = sorted(map(str, system.glob(path)))
        elif system.isdir(path):
            below = (name for name in map(str, system.find(path)) if "/." not in name.removeprefix(fixed))
            files = sorted(name for name in below if is_tar(name) or _suffix(name) in INPUT_SUFFIXES)
            found, arrays = split_inputs([name for name in files if not is_tar(name)])
            tell_arrays(url, arrays)
            found += [name for name in files if is_tar(name)]
        else:
            found = [path]  # its reader says whether it is there
    except Exception as error:  # of any store's own kind
        raise StoreError(f"{url} cannot be listed ({failure_of(error)}); check the address and the access") from error
    if not found:
        return [(url, ImageError(f"{url} stands for no images or tar files; check the address"))]
    # What a store calls a file lacks its protocol, and its host where that is not part of the path.
    root = url.removesuffix(path[len(fixed) :]) if fixed != path else url
    return [(root + name[len(fixed) :], None) for name in found]


def _loose(source: Found) -> tuple[str, ImageSource | ImageError]:
    name, problem = source
    if problem is not None:
        return name, problem
    try:
        return name, _content(name) if is_store(name) else fetched(name)
    except ImageError as error:
        return name, error


def _content(url: str) -> FetchedImage:
    file = io.BytesIO()
    _fetch(url, file)
    content = FetchedImage(file.getvalue())
    content.filename = url
    return content


def _fetch(url: str, file: BinaryIO) -> None:
    """Writes what is there into a file; an `ImageError` where there is nothing."""
    try:
        fetch_file(url, file)
    except MissingFileError as error:
        raise ImageError(str(error)) from error


@contextmanager
def _tar(source: str) -> Iterator[BinaryIO]:
    """A tar file to be read, one that is elsewhere as a copy: whether it came whole is then known, unlike its end."""
    if "://" in source:
        with tempfile.TemporaryFile() as file:
            _fetch(source, file)
            file.seek(0)
            yield file
        return
    try:
        here = open(source, "rb")  # noqa: SIM115  # closed below; what reading it raises is another matter
    except OSError as error:
        raise ImageError(f"{source} cannot be read ({error.strerror}); check the path and its permissions") from error
    with here:
        yield here


def _members(tar: str) -> Iterator[tuple[str, ImageSource | ImageError]]:
    """The images of a tar file, which is read once from its beginning to its end, wherever it is."""
    count = 0
    try:
        with _tar(tar) as file:
            for name, content in _read_tar(file):
                image = FetchedImage(content)
                image.filename = f"{tar}/{name}"
                count += 1
                yield image.filename, image
    except ImageError as error:
        yield tar, error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        after = f"after {plural(count, 'image')} that could be read" if count else "before any image"
        yield tar, ImageError(f"{tar} is no tar file, or cut short ({error}), {after}; copy or pack it again")


def _read_tar(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=file, mode="r|*", encoding="utf-8", errors="surrogateescape") as archive:
        for entry in archive:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
            if entry.isfile() and _suffix(entry.name) in INPUT_SUFFIXES:
                member = archive.extractfile(entry)
                assert member is not None, "it is a file"
                content = member.read()
                if len(content) < entry.size:
                    raise tarfile.ReadError(f"{entry.name} has {len(content):,} of {entry.size:,} bytes")
                yield entry.name, content


def _suffix(name: str) -> str:
    path = PurePosixPath(name)
    return "" if path.name.startswith(".") else path.suffix.lower()


def _ahead(
    read: Callable[[Found], tuple[str, ImageSource | ImageError]], sources: Iterable[Found]
) -> Iterator[tuple[str, ImageSource | ImageError]]:
    """`read` of each, in order; what is elsewhere is asked for by threads, a few ahead of what is taken."""
    waiting: deque[Future[tuple[str, ImageSource | ImageError]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for source in sources:
            waiting.append(pool.submit(read, source))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
