"""How the commands write to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.table import Table

_UNLIMITED_WIDTH = 10_000
T = TypeVar("T")


def output() -> Console:
    """For results. Where stdout is a file or a pipe, nothing is wrapped or cut to a width."""
    return _console(stderr=False)


def notes() -> Console:
    """For what accompanies results: warnings, progress, where things are."""
    return _console(stderr=True)


def table(*columns: str, numbers: slice = slice(0), title: str | None = None) -> Table:
    """A table without a frame, so that its lines can be searched and cut; the first column is never wrapped.

    Args:
        columns: their headings.
        numbers: which of them are set flush right.
        title: a line above.
    """
    made = Table(*columns, box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in made.columns[numbers]:
        column.justify = "right"
    for column in made.columns[1:]:
        column.overflow = "fold"
    made.columns[0].no_wrap = True
    made.columns[0].overflow = "ignore"
    return made


def _console(*, stderr: bool) -> Console:
    watched = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if watched else _UNLIMITED_WIDTH, highlight=False, markup=False)


def progress(items: Iterable[T], total: int, what: str) -> Iterable[T]:
    """The items, with a bar on stderr while they are gone through; without one where stderr is no terminal."""
    from rich.progress import track

    console = notes()
    return track(items, what, total=total, console=console, transient=True) if console.is_terminal else items


def printable(text: str) -> str:
    """A text that any terminal takes: bytes of a file's name that are no UTF-8 as \\udcff, as Python escapes them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
