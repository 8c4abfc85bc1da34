"""Files elsewhere: at http addresses, or in any store that fsspec knows; fetched whole, with a limit of tries."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import time
import urllib.error
from collections.abc import Iterator
from typing import Any, BinaryIO

from ..addresses import FAILURES, failure, is_address, open_address
from .errors import DataError, MissingFileError, StoreError

TRIES = 6
"""How often a file is asked for where the store fails; the pauses between are 0.5, 1, 2, 4 and 8 seconds."""

_BLOCK = 1 << 20
_FIRST_PAUSE = 0.5  # seconds
_FOR_NOW = (408, 425, 429)  # answers of below 500 that are no refusal

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

_log = logging.getLogger(__name__)


class _DamagedError(Exception):
    """What came has another content than it should have; the message says how."""


def fetch_file(address: str, file: BinaryIO, *, size: int | None = None, sha256: str | None = None) -> None:
    """Writes a whole file's content into another, which is at its beginning, and holds nothing else afterwards.

    Args:
        address: where it is: http and https need nothing, others the package that fsspec asks for, such as s3fs, or
            pyarrow.
        file: where it goes.
        size, sha256: what it must have; None where it is not known.

    Raises:
        MissingFileError: there is none, or it may not be read.
        StoreError: it has another size or content, which is not tried again but for one damaged on the way; or the
            store has failed in all `TRIES`.
    """
    pause, damaged = _FIRST_PAUSE, False
    for number in range(1, TRIES + 1):
        file.seek(0)
        try:
            _copy(address, file, size, sha256)
            file.truncate()
            return
        except _DamagedError as error:
            reason = str(error)
            if damaged:
                raise _changed(address, reason) from None
            damaged = True
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
            what = "may not be read" if isinstance(error, PermissionError) else "is missing"
            raise MissingFileError(f"{address} {what} ({error}); check the address and what is there") from error
        except urllib.error.HTTPError as error:
            reason = failure(error)
            if error.code < 500 and error.code not in _FOR_NOW:
                raise MissingFileError(f"{address} {reason}; check the address and what is there") from error
        except Exception as error:  # of any store's own kind
            if isinstance(error, DataError) or getattr(error, "errno", None) in _OF_THE_DISK:
                raise
            reason = failure_of(error)
        if number < TRIES:
            _log.warning("%s %s: try %d of %d follows in %.1f s", address, reason, number + 1, TRIES, pause)
            time.sleep(pause)
            pause *= 2
    raise StoreError(f"{address} {reason}, in the last of {TRIES} tries; resume when the store answers again")


def failure_of(error: BaseException) -> str:
    """Why a store has failed, in words that go after the address."""
    return failure(error) if isinstance(error, FAILURES) else f"failed ({error or type(error).__name__})"


class Store:
    """Files below an address, such as https://host/shards or s3://bucket/shards.

    Args:
        root: the address.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def address(self, name: str) -> str:
        return f"{self.root}/{name}"

    def fetch(self, name: str, file: BinaryIO, *, size: int | None = None, sha256: str | None = None) -> None:
        """One of them, see `fetch_file`."""
        fetch_file(self.address(name), file, size=size, sha256=sha256)

    def names(self) -> list[str]:
        """The files directly below the address, sorted.

        Raises:
            StoreError: they cannot be listed; http has no way to.
        """
        if is_address(self.root):
            raise StoreError(
                f"{self.root} cannot be listed; name the shards, as in {self.root}/train-{{0000..0123}}.tar"
            )
        system, path = file_system(self.root)
        try:
            found = system.ls(path, detail=False)
        except Exception as error:  # of any store's own kind
            raise StoreError(
                f"{self.root} cannot be listed ({failure_of(error)}); check the address and the access"
            ) from error
        return sorted(str(name).rsplit("/", 1)[-1] for name in found)


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it; pyarrow's, where fsspec needs a package more.

    It is asked for where it is used, and not once for all: its threads and sockets belong to one process.

    Raises:
        StoreError: neither knows it.
    """
    import fsspec  # type: ignore[import-untyped]

    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
        return found
    except (ImportError, ValueError) as error:
        start = url.index("/", url.index("://") + 3) if url.count("/") > 2 else len(url)
        try:
            system, root = _of_pyarrow(url[:start])
            return system, root + url[start:]
        except Exception:  # it is fsspec's word that names the package
            raise StoreError(f"{url} cannot be opened: {error}; check it, or install the store's package") from error


@functools.cache
def _of_pyarrow(root: str) -> tuple[Any, str]:
    """A client is made once and not for each file: it looks for the bucket's region, and keeps connections."""
    from fsspec.implementations.arrow import ArrowFSWrapper  # type: ignore[import-untyped]
    from pyarrow.fs import FileSystem  # type: ignore[import-not-found]

    system, path = FileSystem.from_uri(root)
    return ArrowFSWrapper(system), path.rstrip("/")


def _copy(address: str, file: BinaryIO, size: int | None, sha256: str | None) -> None:
    digest, count = hashlib.sha256(), 0
    with _opened(address) as (source, told):
        if None not in (size, told) and told != size:
            raise _changed(address, f"has {told:,} bytes, and had {size:,} when it was indexed")
        while block := source.read(_BLOCK):
            digest.update(block)
            count += len(block)
            if count > (size or told or count):
                break
            file.write(block)
    if (expected := size if size is not None else told) is not None and count != expected:
        raise ConnectionError(f"{count:,} of {expected:,} bytes came")
    if sha256 not in (None, found := digest.hexdigest()):
        raise _DamagedError(
            f"has other content (sha256 {found[:12]}...) than when it was indexed ({str(sha256)[:12]}...)"
        )


def _changed(address: str, how: str) -> StoreError:
    return StoreError(f"{address} {how}; put the former back, or run `swin shards` again")


@contextlib.contextmanager
def _opened(address: str) -> Iterator[tuple[Any, int | None]]:
    """The content to be read, and its size where the store tells it."""
    if is_address(address):
        with open_address(address) as response:
            yield response, response.length
        return
    system, path = file_system(address)
    with system.open(path, "rb", block_size=16 * _BLOCK) as source:
        told = getattr(source, "size", None)
        yield source, told if isinstance(told, int) else system.info(path).get("size")
