"""A prediction in pieces, each a file of rows that is whole or not there, so that what was ended goes on with the rest.

Until all are there they are in OUTPUT.partial, beside the plan that they are pieces of, which is also the lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import plural
from ..whole import locked, put_in_place, remove_unfinished, replacing
from .row_files import ENDINGS, count_rows
from .sources import Found, is_store, is_tar

PLAN = "_plan.json"
"""What the pieces are pieces of. Readers of Parquet pass over names that begin so."""

MOST_IMAGES = 1024
_MULTIPLE = 32  # so that batches are whole ones
_PIECES_A_WORKER = 8


class PiecesError(ValueError):
    """A prediction in pieces that cannot be begun, gone on with or finished. The message says why and the fix."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of the images, whose rows are one file.

    Attributes:
        number: which it is, from 0.
        sources: its images, or the one tar file that it is; with the problem of a pattern that stands for none.
    """

    number: int
    sources: tuple[Found, ...]


def choose_piece_images(sources: Sequence[Found], workers: int) -> int:
    """How many images a piece has: few enough for each worker to get several, and 1,024 at most."""
    loose = sum(not is_tar(name) for name, _ in sources)
    wanted = -(-loose // (workers * _PIECES_A_WORKER))
    return max(_MULTIPLE, min(MOST_IMAGES, -(-wanted // _MULTIPLE) * _MULTIPLE))


def cut(sources: Sequence[Found], images: int) -> list[Piece]:
    """Pieces of so many images, in order; a tar file is one of its own."""
    groups: list[list[Found]] = []
    alone = True
    for source in sources:
        tar = source[1] is None and is_tar(source[0])
        if alone or tar or len(groups[-1]) >= images:
            groups.append([])
        groups[-1].append(source)
        alone = tar
    return [Piece(number=number, sources=tuple(group)) for number, group in enumerate(groups)]


class PieceFolder:
    """Where finished pieces go.

    Args:
        folder: where they are until all are there.
        ending: of their files.
        pieces: how many there are.

    Attributes:
        rows, bad: of the pieces that are there: rows, and how many of these are errors.
    """

    def __init__(self, folder: Path, ending: str, pieces: int) -> None:
        self.folder, self.ending, self.pieces = folder, ending, pieces
        self.done: set[int] = set()
        self.rows = self.bad = 0
        for number in range(pieces):
            if self._place(number).exists():
                self._count(number, count_rows(self._place(number)))

    def put(self, number: int, content: bytes, rows: int, bad: int) -> bool:
        """Writes a piece's file and puts it in its place; False where it is there already, and stays."""
        if number in self.done:
            return False
        with replacing(self._place(number)) as temporary:
            temporary.write_bytes(content)
        self._count(number, (rows, bad))
        return True

    def _count(self, number: int, counts: tuple[int, int]) -> None:
        self.done.add(number)
        self.rows, self.bad = self.rows + counts[0], self.bad + counts[1]

    def _place(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}{self.ending}"


def check_output(output: str | os.PathLike[str]) -> str:
    """The ending of a folder for pieces, which says their format; a `PiecesError` where it cannot be one."""
    text = os.fspath(output)
    ending = Path(text).suffix
    if ending not in ENDINGS:
        raise PiecesError(
            f"the output {text} is a folder of pieces, whose ending says their format: {' or '.join(ENDINGS)}"
        )
    if is_store(text):
        raise PiecesError(
            f"the output {text} is no folder on this machine, which gathers the rows; copy them afterwards"
        )
    return ending


@contextmanager
def piece_folder(
    output: str | os.PathLike[str], sources: Sequence[Found], plan: Mapping[str, Any], *, resume: bool
) -> Iterator[tuple[PieceFolder, list[Piece]]]:
    """Within it pieces are done; at its end, when all are, their folder is put in its place.

    Args:
        output: the folder; its ending is the format.
        sources: all that is to be predicted for.
        plan: what rows are made with, in JSON's types, and under "piece_images" into how many images a piece is cut,
            which what was begun keeps.
        resume: whether to go on with what a process has left that was ended.

    Yields:
        The folder, and the pieces that are not there yet.

    Raises:
        PiecesError: the folder is there already, another process writes it, what is left of it was not asked for, or
            was made with other settings or of other images; the message says what is whole and how to go on.
    """
    target, ending = Path(output), check_output(output)
    partial = target.with_name(f"{target.name}.partial")
    if target.exists():
        whole = len([*target.glob(f"part-*{ending}")])
        if not (resume and whole) or partial.exists():
            raise PiecesError(f"{target} is there already; remove it to make it anew, or choose another output")
        yield _opened(target, ending, whole), []
        return
    partial.mkdir(parents=True, exist_ok=True)
    busy = PiecesError(f"another process is writing {target}: wait for its end, or choose another output")
    listing = json.dumps([name for name, _ in sources]).encode()
    plan = {**plan, "images": len(sources), "sha256": hashlib.sha256(listing).hexdigest()}
    with locked(partial / PLAN, lambda _: busy) as lock:
        there = len([*partial.glob(f"part-*{ending}")])
        before = _read_plan(lock, partial) if there else {}
        if there:
            _check(partial, before, plan, there, resume)
            plan["piece_images"] = before["piece_images"]
        else:
            os.ftruncate(lock, 0)
            os.lseek(lock, 0, os.SEEK_SET)
            os.write(lock, json.dumps(plan).encode())
            os.fsync(lock)
        pieces = cut(sources, plan["piece_images"])
        remove_unfinished(partial, tuple(f"part-{piece.number:05d}{ending}" for piece in pieces))
        folder = _opened(partial, ending, len(pieces))
        try:
            yield folder, [piece for piece in pieces if piece.number not in folder.done]
            if len(folder.done) == len(pieces):
                put_in_place(partial, target)
                (target / PLAN).unlink()
        finally:
            if not folder.done:
                shutil.rmtree(partial, ignore_errors=True)


def _opened(folder: Path, ending: str, pieces: int) -> PieceFolder:
    try:
        return PieceFolder(folder, ending, pieces)
    except ValueError as error:
        raise PiecesError(str(error)) from error


def _read_plan(lock: int, partial: Path) -> dict[str, Any]:
    try:
        plan = dict(json.loads(os.read(lock, 1 << 20)))
        return plan | {"piece_images": int(plan["piece_images"])}
    except (ValueError, TypeError, KeyError):
        raise PiecesError(
            f"{partial / PLAN}, which tells what the pieces are made of, is damaged or gone; remove {partial} to begin "
            "anew"
        ) from None


def _check(partial: Path, before: Mapping[str, Any], plan: Mapping[str, Any], there: int, resume: bool) -> None:
    if not resume:
        raise PiecesError(
            f"{partial} has {plural(there, 'piece')} of a prediction that was ended: resume it (--resume), or remove "
            "the folder to begin anew"
        )
    known = ("piece_images", "sha256")
    unlike = sorted(name for name in {**before, **plan} if name not in known and before.get(name) != plan.get(name))
    differences = "; ".join(f"{name} {before.get(name)!r}, now {plan.get(name)!r}" for name in unlike)
    if not unlike and before.get("sha256") != plan["sha256"]:
        differences = "other images, as many"
    if differences:
        raise PiecesError(
            f"{partial} was begun with other settings or images ({differences}): give the same to go on, or remove it "
            "to begin anew"
        )
