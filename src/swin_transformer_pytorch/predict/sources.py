"""What many processes predict for: files, tar files of images, addresses and stores; how they are found, and read."""

from __future__ import annotations

import functools
import glob
import itertools
import os
import tarfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from ..addresses import FAILURES, failure, is_address, open_address
from ..data.errors import DataError, ImageError
from ..data.images.decode import ImageSource
from ..data.images.files import INPUT_SUFFIXES, split_inputs, tell_arrays
from ..data.images.files import find_images as find_below
from ..data.images.remote import FetchedImage, fetched
from .files import find_images

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
"""Endings of files that hold images: webdataset's shards, or any other tar files."""

_TRIES = 4
_FIRST_PAUSE = 0.5  # seconds; it doubles
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
        DataError: a store cannot be opened or listed.
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
        DataError: a store or a server fails, which is no image's fault, in all of four tries.
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
    system, path = _store(url)
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
        raise DataError(f"{url} cannot be listed ({failure_of(error)}); check the address and the access") from error
    if not found:
        return [(url, ImageError(f"{url} stands for no images or tar files; check the address"))]
    # What a store calls a file lacks its protocol, and its host where that is not part of the path.
    root = url.removesuffix(path[len(fixed) :]) if fixed != path else url
    return [(root + name[len(fixed) :], None) for name in found]


def _store(url: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it; pyarrow's, where fsspec needs a package more.

    Raises:
        DataError: neither knows it.
    """
    import fsspec

    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
        return found
    except (ImportError, ValueError) as error:
        start = url.index("/", url.index("://") + 3) if url.count("/") > 2 else len(url)
        try:
            system, root = _of_pyarrow(url[:start])
            return system, root + url[start:]
        except Exception:  # it is fsspec's word that names the package
            raise DataError(
                f"{url} cannot be opened: {error}; check it, or install the store's package on every machine"
            ) from error


@functools.cache
def _of_pyarrow(root: str) -> tuple[Any, str]:
    """A client is made once and not for each file: it looks for the bucket's region, and keeps connections."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import FileSystem

    system, path = FileSystem.from_uri(root)
    return ArrowFSWrapper(system), path.rstrip("/")


def _loose(source: Found) -> tuple[str, ImageSource | ImageError]:
    name, problem = source
    if problem is not None:
        return name, problem
    try:
        return name, _in_tries(lambda: _content(name), name) if is_store(name) else fetched(name)
    except ImageError as error:
        return name, error


def _content(url: str) -> FetchedImage:
    with closing(_opened(url)) as file:
        content = FetchedImage(file.read())
    content.filename = url
    return content


def _opened(source: str) -> Any:
    """A file, here or elsewhere, at its beginning; an `ImageError` where there is none."""
    try:
        if is_address(source):
            return open_address(source)
        if not is_store(source):
            return open(source, "rb")
        system, path = _store(source)
        return system.open(path, "rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ImageError(f"{source} does not exist; check the path or the address") from error
    except PermissionError as error:
        raise ImageError(f"{source} may not be read; change its permissions") from error


def _in_tries(read: Callable[[], Any], name: str) -> Any:
    """What `read` gives, which is asked again where the store fails."""
    pause = _FIRST_PAUSE
    for number in range(1, _TRIES + 1):
        try:
            return read()
        except (ImageError, DataError):
            raise
        except Exception as error:  # of any store's own kind
            if number == _TRIES:
                raise DataError(
                    f"{name} {failure_of(error)}, in the last of {_TRIES} tries; resume when the store answers again"
                ) from error
        time.sleep(pause)
        pause *= 2


def failure_of(error: BaseException) -> str:
    return failure(error) if isinstance(error, FAILURES) else f"failed: {error or type(error).__name__}"


def _members(tar: str) -> Iterator[tuple[str, ImageSource | ImageError]]:
    """The images of a tar file, which is read once from its beginning to its end, wherever it is."""
    count = 0
    try:
        with closing(_in_tries(lambda: _opened(tar), tar)) as file:
            for name, content in _read_tar(file):
                image = FetchedImage(content)
                image.filename = f"{tar}/{name}"
                count += 1
                yield image.filename, image
    except ImageError as error:
        yield tar, error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        after = f"after {count:,} images that were read" if count else "before any image"
        yield tar, ImageError(f"{tar} is no tar file, or cut short ({error}), {after}; copy or pack it again")
    except FAILURES as error:
        raise DataError(f"{tar} {failure(error)}; resume when it answers again") from error


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
