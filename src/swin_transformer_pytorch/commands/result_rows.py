"""The JSON lines of `swin predict`: a stream, or a file that is put in place when it is whole and can be resumed.

Until FILE is whole, FILE.partial has the rows so far, and FILE.partial.settings what they are made with; that is also
the lock on FILE. A row's pictures are written `beside` their places, then the row, and then they are put in their
places: so a row without its pictures gets them when it is resumed, and pictures without a row are written over.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from ..whole import behind_links, failure, is_stream, locked, put_in_place
from . import terminal
from .errors import UsageError

_FILES = ("picture", "label_map")  # a row's keys that name files


@dataclass(kw_only=True)
class ResultRows:
    """Where rows go, and those that were there before.

    Attributes:
        send: writes a line, whole or not at all.
        done: the names of images that have a row already, and whether that is an error.
        files: real paths of the pictures and label maps of these rows.
        whole: whether nothing is left to do.
    """

    send: Callable[[str], object]
    done: dict[str, bool] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    whole: bool = False

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes a row, and puts the files that it names in their places. They lie `beside` them by now."""
        from ..results.rows import json_line

        self.send(json_line(record))
        _place_files(record)


@contextmanager
def result_rows(output: str | None, settings: dict[str, Any], *, resume: bool) -> Iterator[ResultRows]:
    """Within it rows are taken for a file, for stdout ("-") or another stream, or for nothing (None).

    Args:
        output: where to.
        settings: what rows are made with, in JSON's types. Unlike ones are not mixed in a file.
        resume: whether to go on with what a process has left that was ended.

    Raises:
        UsageError: another process writes the file, it cannot be written, what is left of it was not asked for, or was
            made with other settings; the message says what is whole and how to go on.
    """
    path = None if output is None or output == "-" else Path(output)
    if resume and (path is None or is_stream(path)):
        raise UsageError("--resume needs --output FILE, a file that remembers what is done")
    if output is None:
        yield ResultRows(send=lambda line: None)
    elif path is None:
        yield ResultRows(send=_to_stdout)
    elif is_stream(path):
        with path.open("ab", buffering=0) as stream:
            yield ResultRows(send=lambda line: _write(stream.fileno(), line, output))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        with sigterm_as_exit(), _resumable(behind_links(path), settings, resume) as rows:
            yield rows


def is_stdout(output: str | None) -> bool:
    """Whether it is "-" or another name of this process's stdout, such as /dev/stdout."""
    if output is None or output == "-":
        return output == "-"
    with suppress(OSError):
        return os.path.samestat(os.stat(output), os.fstat(1))
    return False


def beside(path: Path) -> Path:
    """Where a row's file is written first."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


@contextmanager
def writing(where: object, *, file: Path | None = None) -> Iterator[None]:
    """Within it, what the system says of a full disk and the like becomes a `UsageError`, and `file` is removed."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if file is not None:
            file.unlink(missing_ok=True)
        raise UsageError(f"{where} cannot be written ({failure(error)})") from error


@contextmanager
def _resumable(target: Path, settings: dict[str, Any], resume: bool) -> Iterator[ResultRows]:
    partial, settings_file = (target.with_name(f"{target.name}.partial{end}") for end in ("", ".settings"))
    busy = UsageError(f"another process is writing {target}: wait for its end, or choose another --output")
    with locked(settings_file, lambda _: busy) as lock:
        try:
            whole = resume and target.exists() and not partial.exists()
            done, files, size = _read(target if whole else partial)
            if whole:
                terminal.notes().print(f"{target} is whole, so nothing is left to do; without --resume it is made anew")
                yield ResultRows(send=_to_stdout, done=done, whole=True)
                return
            if done:
                _check_resumable(partial, lock, settings, len(done), resume)
                cut = ", and one that was not whole is done again" * (size < partial.stat().st_size)
                terminal.notes().print(f"resuming {target}: {len(done):,} rows are whole{cut}")
            else:
                os.ftruncate(lock, 0)
                _write(lock, json.dumps(settings), settings_file)
                with writing(settings_file):
                    os.fsync(lock)
            count = len(done)
            try:
                with partial.open("ab", buffering=0) as file:
                    file.truncate(size)

                    def send(line: str) -> None:
                        nonlocal count, size
                        try:
                            written = _write(file.fileno(), line, partial)
                        except BaseException:
                            with suppress(OSError):
                                file.truncate(size)
                            raise
                        count, size = count + 1, size + written

                    yield ResultRows(send=send, done=done, files=files)
                with writing(target):
                    put_in_place(partial, target)
            except BaseException as error:
                if not count:
                    partial.unlink(missing_ok=True)
                    raise
                hint = f"{count:,} rows are whole in {partial}; the same command with --resume goes on"
                if isinstance(error, UsageError):
                    raise UsageError(f"{error}; {hint}") from error
                print(f"\nswin: {hint}", file=sys.stderr)
                raise
        finally:
            if not partial.exists():
                settings_file.unlink(missing_ok=True)


def _check_resumable(partial: Path, lock: int, settings: dict[str, Any], count: int, resume: bool) -> None:
    if not resume:
        raise UsageError(
            f"{partial} has {count:,} rows of a prediction that was ended: add --resume to go on, or remove it to "
            "begin anew"
        )
    try:
        before = dict(json.loads(os.read(lock, 1 << 20)))
    except (ValueError, TypeError):
        raise UsageError(
            f"{partial}.settings, which tells what {partial} was made with, is damaged or gone; remove both to begin "
            "anew"
        ) from None
    unlike = [
        f"{name} {before.get(name)!r}, now {settings.get(name)!r}"
        for name in before | settings
        if before.get(name) != settings.get(name)
    ]
    if unlike:
        raise UsageError(
            f"{partial} was begun with other settings ({'; '.join(unlike)}): give the same to go on, or remove it to "
            "begin anew"
        )


def _read(path: Path) -> tuple[dict[str, bool], set[str], int]:
    """Of a file's rows, up to the first that is not whole: `done` and `files` of `ResultRows`, and their bytes.

    The last one's files are put in their places.
    """
    done: dict[str, bool] = {}
    files: set[str] = set()
    size, last = 0, {}
    with path.open("rb") if path.exists() else nullcontext() as file:
        for line in file or ():
            if (row := _parsed(line)) is None:
                break
            last, size = row, size + len(line)
            done[row["path"]] = "error" in row
            files |= {os.path.realpath(row[key]) for key in _FILES if key in row}
    _place_files(last)
    return done, files, size


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("path"), str) else None


def _place_files(record: Mapping[str, Any]) -> None:
    for path in (Path(record[key]) for key in _FILES if key in record):
        with suppress(FileNotFoundError):
            os.replace(beside(path), path)


def _write(handle: int, text: str, where: object) -> int:
    """Writes all of a text, of which the system may take less at once; gives its bytes."""
    data = text.encode()
    size = len(data)
    with writing(where):
        while data:
            data = data[os.write(handle, data) :]
    return size


def _to_stdout(line: str) -> None:
    with writing("stdout"):
        sys.stdout.write(line)
        sys.stdout.flush()


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Within it SIGTERM ends the command as an exception does, with the exit code that a shell gives it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
