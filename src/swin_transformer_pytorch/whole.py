"""Files that are whole or as they were, whatever happens meanwhile, that one process writes at a time, and that tell
when they have been damaged since.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: there is no lock
    fcntl = None  # type: ignore[assignment]

# A torch file is a zip archive, which may end in a comment: ours is the hash of all that comes before it.
_MARK = b"sha256:"
_SEAL_BYTES = len(_MARK) + 64
_END_OF_ARCHIVE, _END_BYTES = b"PK\x05\x06", 22


@contextmanager
def replacing(path: Path, *, keep: Path | None = None) -> Iterator[Path]:
    """Gives a file beside `path` to be written, and puts it in its place when it is whole and on the disk.

    A kill, a full disk or a power cut leaves the old file or the new one. On an error the new one is removed. What
    cannot be replaced, a pipe or a device, is written directly. An `OSError` names the file.

    Args:
        path: the file to write; its folder must exist. The one beside has its ending.
        keep: where the old file goes; a kill may then leave it there and none at `path`.
    """
    if is_stream(path):
        yield path
        return
    if keep is None:
        path = behind_links(path)
    with naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())
            put_in_place(temporary, path, keep=keep)
        finally:
            temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path, *, keep: Path | None = None) -> None:
    """Renames a finished file of the same folder to `path`, after bringing it to the disk; see `replacing`."""
    _to_disk(temporary)
    if keep is not None:
        with suppress(FileNotFoundError):
            os.replace(path, keep)
    os.replace(temporary, path)
    with suppress(OSError):  # not every system has it for folders
        _to_disk(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by one with this text, in UTF-8, as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_stream(path: Path) -> bool:
    """Whether it is written as it comes, since nothing can be put in its place: a pipe, a device, /dev/stdout."""
    if os.path.abspath(path).startswith(("/dev/fd/", "/dev/std", "/proc/")):  # whatever these lead to
        return True
    return path.exists() and not path.is_file()


def behind_links(path: Path) -> Path:
    """The file that a link leads to, which is the one to be replaced."""
    return path.resolve() if path.is_symlink() else path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within it, an `OSError` names this file where it would name none, as the system's do of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextmanager
def locked(path: Path, refusal: Callable[[str], Exception]) -> Iterator[int]:
    """Within it no other process gets past this with the same file. The system lets go of it, however this one ends.

    It is a lock of the process and not of the file's handle, which processes that load images would share, and some of
    them outlive a killed run by seconds. So a process must not open the file a second time.

    Args:
        path: the file, made where it is missing. Who has the lock may remove it.
        refusal: the error to raise where another process has the lock, from the file's first 100 characters.

    Yields:
        The file's handle, to read and write what others may want to know.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                try:
                    fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except (BlockingIOError, PermissionError):
                    raise refusal(os.read(handle, 100).decode(errors="replace").strip()) from None
                except OSError:
                    pass  # a file system without locks
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):  # not removed before it was locked
                yield handle
                return
        finally:
            os.close(handle)


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
