"""Shards of a store on this machine: whole ones, up to a limit, for any number of processes at once."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ...whole import put_in_place
from ..stores import Store
from .errors import ShardError
from .index import Shard
from .places import READING

_LOCKS = 256
_TOUCHED_EVERY = 5.0  # seconds
_LONG = 30.0  # seconds that who waits for a shard is told of

_log = logging.getLogger(__name__)


class ShardCache:
    """A folder of shards, each under its content's hash, so that different data and runs can share it.

    A shard that is being fetched has another name until it is whole, compared with its hash and on the disk. Its size
    counts from the beginning on. A killed process leaves at most its unfinished ones, which the next that needs room
    removes. What was not read for longest goes first.

    Args:
        store: where shards come from.
        folder: where they are kept, made where it is missing.
        limit: bytes that they may take there.
    """

    def __init__(self, store: Store, folder: Path, limit: int) -> None:
        self.store, self.folder, self.limit = store, folder, limit
        self._touched: dict[str, float] = {}
        self._said_slow = self._said_removed = False

    def open(self, shard: Shard, wanted: Callable[[], Collection[str]] = tuple) -> int:
        """A handle to read a shard from, which is fetched first where it is not here; to be closed.

        Another process may remove the file meanwhile: the handle stays good.

        Args:
            shard: which.
            wanted: the hashes of shards that are removed last.

        Raises:
            StoreError: it is missing or changed, the store has failed, or the folder cannot be written.
        """
        found = self._opened(shard)
        if found is not None:
            return found
        began = time.monotonic()
        if shard.sha256 in self._touched and not self._said_removed and shard.sha256 in wanted():
            self._said_removed = True
            text = (
                "%s was removed from %s while it was needed: data.shards.cache_gb=%g is too little for all that read "
            )
            text += "there, so that shards are fetched again and again; this is said once a process"
            _log.warning(text, shard.name, self.folder, self.limit / 1e9)
        with self._locked(shard):
            found = self._opened(shard)  # another process may have fetched it meanwhile
            while found is None:
                found = self._fetched(shard, wanted(), may_remove_wanted=True)
                if found is None:
                    time.sleep(0.1)  # others fetch shards that take all the room
        self._touched[shard.sha256] = time.monotonic()
        waited = self._touched[shard.sha256] - began
        if waited > _LONG and not self._said_slow:
            self._said_slow = True
            text = "%s (%.0f MB) took %.0f s to come, in which images were waited for; this is said once a process"
            _log.warning(text, self.store.address(shard.name), shard.size / 1e6, waited)
        return found

    def fetch_ahead(self, shard: Shard, wanted: Collection[str]) -> None:
        """Fetches a shard that will be needed, unless it is here or being fetched, or wanted ones leave no room."""
        if self._path(shard).exists():
            return
        with suppress(Timeout), self._locked(shard, wait=False):
            found = self._opened(shard)
            if found is None:
                found = self._fetched(shard, wanted, may_remove_wanted=False)
            if found is not None:
                os.close(found)

    def has(self, shard: Shard) -> bool:
        """Whether it is here."""
        return self._path(shard).exists()

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.sha256}.tar"

    @contextmanager
    def _locked(self, shard: Shard, *, wait: bool = True) -> Iterator[None]:
        """Within it no other process fetches this shard, nor a few others."""
        lock = FileLock(self._lock_file(shard.sha256), timeout=-1 if wait else 0)
        with writing(self.folder):
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _lock_file(self, sha256: str) -> Path:
        return self.folder / "locks" / f"{int(sha256[:8], 16) % _LOCKS:03d}"

    def _opened(self, shard: Shard) -> int | None:
        path = self._path(shard)
        try:
            handle = os.open(path, READING)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if os.fstat(handle).st_size != shard.size:  # cut short by who knows whom: fetched again
            os.close(handle)
            path.unlink(missing_ok=True)
            return None
        now = time.monotonic()
        if now - self._touched.get(shard.sha256, -_TOUCHED_EVERY) >= _TOUCHED_EVERY:
            self._touched[shard.sha256] = now
            with suppress(OSError):  # it has just been removed, or is another user's
                os.utime(path)
        return handle

    def _fetched(self, shard: Shard, wanted: Collection[str], *, may_remove_wanted: bool) -> int | None:
        """Fetches it, under its lock; None where there is no room."""
        unfinished = self.folder / f"{shard.sha256}.part"
        with writing(self.folder):
            if not self._make_room(shard, unfinished, wanted, may_remove_wanted=may_remove_wanted):
                return None
            try:
                with unfinished.open("r+b") as file:
                    self.store.fetch(shard.name, file, size=shard.size, sha256=shard.sha256)
                handle = os.open(unfinished, READING)  # as others may remove it once it is in place
                put_in_place(unfinished, self._path(shard))
            finally:
                unfinished.unlink(missing_ok=True)
        return handle

    def _make_room(self, shard: Shard, unfinished: Path, wanted: Collection[str], *, may_remove_wanted: bool) -> bool:
        """Removes shards until this one fits, and takes its room."""
        with FileLock(self.folder / "locks" / "room"):
            unfinished.unlink(missing_ok=True)
            files: list[tuple[bool, bool, float, Path, int]] = []
            for path in self.folder.iterdir():
                with suppress(FileNotFoundError):  # it has just been finished
                    if path.suffix in (".tar", ".part"):
                        status = path.stat()
                        files.append(
                            (path.suffix == ".tar", path.stem in wanted, status.st_mtime, path, status.st_size)
                        )
            excess = sum(size for *_, size in files) + shard.size - self.limit
            # What killed processes left comes first, as it is of no use.
            for whole, is_wanted, _, path, size in sorted(files):
                if excess <= 0:
                    break
                if (may_remove_wanted or not is_wanted or not whole) and (whole or self._is_left(path, shard)):
                    path.unlink(missing_ok=True)
                    excess -= size
            if excess > 0:
                return False
            with unfinished.open("wb") as file:
                file.truncate(shard.size)
            return True

    def _is_left(self, unfinished: Path, fetched: Shard) -> bool:
        """Whether nobody fetches it any more; the lock of the shard that is being `fetched` is ours."""
        if self._lock_file(unfinished.stem) == self._lock_file(fetched.sha256):
            return True
        try:
            with FileLock(self._lock_file(unfinished.stem), timeout=0):
                return True
        except Timeout:
            return False


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within it, that the folder cannot be written is an error that names the fix."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise ShardError(
            f"{folder} cannot hold shards ({error.strerror or error}); make room, or choose another "
            "data.shards.cache or a smaller data.shards.cache_gb"
        ) from error
