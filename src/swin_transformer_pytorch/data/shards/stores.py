"""Where shards are: a folder, an http address, or any store that fsspec knows; fetched whole, with a limit of tries."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import time
import urllib.error
from collections.abc import Iterator
from typing import Any, BinaryIO

from ...addresses import FAILURES, failure, is_address, open_address
from .errors import ShardError

TRIES = 6
"""How often a file is asked for where the store fails; the pauses between are 0.5, 1, 2, 4 and 8 seconds."""

_BLOCK = 1 << 20
_FIRST_PAUSE = 0.5  # seconds
_FOR_NOW = (408, 425, 429)  # answers of below 500 that are no refusal

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

_log = logging.getLogger(__name__)


class _ChangedError(Exception):
    """What came is not what the index tells of; the message says how."""


class Store:
    """Files below an address, such as https://host/shards or s3://bucket/shards.

    For http and https nothing is needed; for others the package that fsspec asks for, such as s3fs.

    Args:
        root: the address.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def address(self, name: str) -> str:
        return f"{self.root}/{name}"

    def fetch(self, name: str, file: BinaryIO, *, size: int | None = None, sha256: str | None = None) -> None:
        """Writes a whole file's content into another, which is at its beginning, and holds nothing else afterwards.

        Args:
            name: the file.
            file: where it goes.
            size, sha256: what it must have; None where it is not known.

        Raises:
            ShardError: it is missing, or has another size or content, which is not tried again but for one damaged on
                the way; or the store has failed in all `TRIES`.
        """
        address, pause, damaged = self.address(name), _FIRST_PAUSE, 0
        for number in range(1, TRIES + 1):
            file.seek(0)
            try:
                digest = self._copy(address, file, size)
                if sha256 in (None, digest):
                    file.truncate()
                    return
                damaged += 1
                reason = f"has other content (sha256 {digest[:12]}...) than when it was indexed ({str(sha256)[:12]}...)"
                if damaged > 1:
                    raise _ChangedError(reason)
            except _ChangedError as error:
                raise ShardError(f"{address} {error}; put the former back, or run `swin shards` again") from None
            except (FileNotFoundError, PermissionError) as error:
                what = "is missing" if isinstance(error, FileNotFoundError) else "may not be read"
                raise ShardError(f"{address} {what} ({error}); check the address and what is there") from error
            except urllib.error.HTTPError as error:
                reason = failure(error)
                if error.code < 500 and error.code not in _FOR_NOW:
                    raise ShardError(f"{address} {reason}; check the address and what is there") from error
            except Exception as error:  # of any store's own kind
                if isinstance(error, ShardError) or getattr(error, "errno", None) in _OF_THE_DISK:
                    raise
                reason = failure(error) if isinstance(error, FAILURES) else f"failed ({error or type(error).__name__})"
            if number < TRIES:
                _log.warning("%s %s: try %d of %d follows in %.1f s", address, reason, number + 1, TRIES, pause)
                time.sleep(pause)
                pause *= 2
        raise ShardError(f"{address} {reason}, in the last of {TRIES} tries; resume when the store answers again")

    def names(self) -> list[str]:
        """The files directly below the address, sorted.

        Raises:
            ShardError: they cannot be listed; http has no way to.
        """
        if is_address(self.root):
            raise ShardError(
                f"{self.root} cannot be listed; name the shards, as in {self.root}/train-{{0000..0123}}.tar"
            )
        with self._telling():
            system, path = self._system(self.root)
            found = system.ls(path, detail=False)
        return sorted(str(name).rsplit("/", 1)[-1] for name in found)

    def _copy(self, address: str, file: BinaryIO, size: int | None) -> str:
        """Copies the content; its sha256."""
        digest, count = hashlib.sha256(), 0
        with self._opened(address) as (source, told):
            if None not in (size, told) and told != size:
                raise _ChangedError(f"has {told:,} bytes, and had {size:,} when it was indexed")
            while block := source.read(_BLOCK):
                digest.update(block)
                count += len(block)
                if count > (size or told or count):
                    break
                file.write(block)
        if (expected := size if size is not None else told) is not None and count != expected:
            raise ConnectionError(f"{count:,} of {expected:,} bytes came")
        return digest.hexdigest()

    @contextlib.contextmanager
    def _opened(self, address: str) -> Iterator[tuple[Any, int | None]]:
        """The content to be read, and its size where the store tells it."""
        if is_address(address):
            with open_address(address) as response:
                yield response, response.length
            return
        with self._telling():
            system, path = self._system(address)
            told = system.info(path).get("size")
            source = system.open(path, "rb", block_size=16 * _BLOCK)
        with source:
            yield source, told

    def _system(self, address: str) -> tuple[Any, str]:
        # Here, and not once for all: a file system's threads and sockets belong to one process.
        import fsspec  # type: ignore[import-untyped]

        found: tuple[Any, str] = fsspec.core.url_to_fs(address)
        return found

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Makes a `ShardError` of a protocol that is unknown or needs a package."""
        try:
            yield
        except (ImportError, ValueError) as error:
            if isinstance(error, ShardError):
                raise
            raise ShardError(
                f"{self.root} cannot be opened: {error}; check it, or install the store's package"
            ) from error
