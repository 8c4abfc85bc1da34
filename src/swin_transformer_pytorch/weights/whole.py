"""Files that are whole or as they were, whatever happens meanwhile, and that tell when they have been damaged since."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# A torch file is a zip archive, which may end in a comment: ours is the hash of all that comes before it.
_MARK = b"sha256:"
_SEAL_BYTES = len(_MARK) + 64
_END_OF_ARCHIVE, _END_BYTES = b"PK\x05\x06", 22


@contextmanager
def replacing(path: Path, *, keep: Path | None = None) -> Iterator[Path]:
    """Gives a file beside `path` to be written, and puts it in its place when it is whole and on the disk.

    A kill, a full disk or a power cut leaves the old file or the new one. On an error the new one is removed.

    Args:
        path: the file to write; its folder must exist.
        keep: where the old file goes; a kill may then leave it there and none at `path`.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        _to_disk(temporary)
        if keep is not None:
            with suppress(FileNotFoundError):
                os.replace(path, keep)
        os.replace(temporary, path)
        with suppress(OSError):  # not every system has it for folders
            _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path, names: tuple[str, ...]) -> None:
    """Removes what killed processes left of files of these names. No process may be writing them."""
    for name in names:
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)


def failure(error: BaseException) -> str:
    """Why writing failed, in a few words: torch hides the system's reason behind one of its own."""
    reason = error if isinstance(error, OSError) else error.__context__
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def seal(path: Path) -> None:
    """Adds to a torch file the hash of its content. It stays a torch file."""
    with path.open("r+b") as file:
        file.seek(-_END_BYTES, os.SEEK_END)
        end = file.read()
        assert end.startswith(_END_OF_ARCHIVE) and end.endswith(b"\0\0"), "torch writes no comment"
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", _SEAL_BYTES))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, os.SEEK_END)
        file.write(_MARK + digest.encode())


def is_intact(path: Path) -> bool:
    """Whether a file has the content that it was sealed with; True where it was never sealed."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - _SEAL_BYTES
        if size < 0:
            return True
        file.seek(size)
        sealed = file.read()
        if not sealed.startswith(_MARK):
            return True
        file.seek(0)
        digest = hashlib.sha256()
        while size and (block := file.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest().encode() == sealed[len(_MARK) :]


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
