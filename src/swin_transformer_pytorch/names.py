"""When two names are the same, whatever wrote them: Unicode has é as one character and as an e with an accent."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
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
