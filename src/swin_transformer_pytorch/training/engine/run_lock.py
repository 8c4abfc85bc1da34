"""One training in a folder at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..recipes.parts import RecipeError

try:
    import fcntl
except ImportError:  # Windows: there is no lock
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within it no other process can train in `folder`. The system lets go of it, whatever way this process ends.

    It is a lock of the process and not of the file's handle, which processes that load images would share, and some of
    them outlive a killed run by seconds.

    Raises:
        RecipeError: another process trains there.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                holder = os.read(handle, 100).decode(errors="replace").strip()
                raise RecipeError(
                    f"another training is running in {folder} ({holder}): wait for its end, or choose another --output"
                ) from None
            except OSError:
                pass  # a file system without locks
        with suppress(OSError):  # of a full disk; who holds it is for messages only
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)
