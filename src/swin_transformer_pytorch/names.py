"""When two names are the same, whatever wrote them: Unicode has é as one character and as an e with an accent.

And when one may have been meant by another.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def composed(name: str) -> str:
    """A name in the one form that stands for all (NFC): two are the same if these are equal."""
    return unicodedata.normalize("NFC", name)


def by_name(entries: Mapping[str, T]) -> Callable[[str], T | None]:
    """Looks entries up by name: the one of exactly this name, else the first of the same name, else None."""
    same: dict[str, T] = {}
    for name, entry in entries.items():
        same.setdefault(composed(name), entry)
    return lambda name: entries[name] if name in entries else same.get(composed(name))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question for up to three names that hold `name`, or begin or are spelt like it; empty where none is near."""
    known = list(known) if name else []
    beginnings = {each: each[: len(name)] for each in known}
    spelt = difflib.get_close_matches(name, dict.fromkeys(beginnings.values()), cutoff=0.75)
    near = [each for each in known if name in each]
    near = near or [each for like in spelt for each in known if beginnings[each] == like]
    near = near or difflib.get_close_matches(name, known, cutoff=0.75)
    return f"did you mean {', '.join(near[:3])}? " if near else ""
