"""Names and colours of a label map's classes, from a person's file."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...colours import Colour
from ..errors import DataError

MAX_CLASSES = 255
"""Labels are bytes, of which 255 means "ignore"."""

_COLOURED = re.compile(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\S.*)")
_CVAT = re.compile(r"([^:]+):(\d+),(\d+),(\d+):[^:]*:[^:]*")  # "# label:color_rgb:parts:actions" stands above
_VALUES = re.compile(r"pixel\s*value\s*,\s*class", re.IGNORECASE)  # Roboflow's first line


@dataclass(frozen=True, kw_only=True)
class SegmentationClasses:
    """The classes of a data set of segmentation.

    Attributes:
        names: by label, from 0.
        palette: an RGB colour of each, or None where none are given.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...] | None = None


def read_classes(path: str | os.PathLike[str]) -> SegmentationClasses:
    """Reads a file of class names, in the order of their labels.

    A text file has a class a line, its name or "red green blue name"; blank lines and those that begin with "#" are
    passed over. CVAT's "name:r,g,b::" is read too, and a table of "value, name" below Roboflow's "Pixel Value, Class",
    whose values must be 0, 1, 2, ... A JSON file has a list of names, a list of objects {"name": ..., "color": [red,
    green, blue]}, or one object {name: colour}.
    Colours are 0 to 255, and all classes have one or none has.

    Raises:
        DataError: the file cannot be read, or does not say that; the message names the line or entry.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); give a text or JSON file of class names") from error
    entries = _from_json(path, text) if path.suffix.lower() == ".json" else _from_lines(path, text)
    if not entries:
        raise DataError(f"{path} names no classes; write one a line, in the order of their labels from 0")
    if len(entries) > MAX_CLASSES:
        raise DataError(f"{path} names {len(entries)} classes; label maps of bytes hold {MAX_CLASSES} at most")
    first: dict[str, str] = {}
    for where, name, colour in entries:
        if name in first:
            raise DataError(f"{path}, {where}: the class {name!r:.60} is there already ({first[name]}); rename one")
        first[name] = where
        if (colour is None) != (entries[0][2] is None):
            raise DataError(f"{path}, {where}: {name!r:.60} {_lack(colour)}; give a colour to all classes or to none")
        if colour is not None and max(colour) > 255:
            raise DataError(f"{path}, {where}: the colour {colour!r:.60} of {name!r:.60} is beyond 255; use 0 to 255")
    colours = [colour for _, _, colour in entries if colour is not None]
    return SegmentationClasses(names=tuple(first), palette=tuple(colours) if colours else None)


_Entry = tuple[str, str, Colour | None]


def _lack(colour: Colour | None) -> str:
    return "has no colour and the first class has" if colour is None else "has a colour and the first class has none"


def _from_lines(path: Path, text: str) -> list[_Entry]:
    entries: list[_Entry] = []
    numbered = False
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        where = f"line {number}"
        if not line or line.startswith("#"):
            continue
        if not entries and _VALUES.fullmatch(line):
            numbered = True
        elif numbered:
            value, _, name = line.partition(",")
            if value.strip() != str(len(entries)) or not name.strip():
                raise DataError(
                    f"{path}, {where} is {line!r:.60}; write '{len(entries)}, NAME': the values count from 0"
                )
            entries.append((where, name.strip(), None))
        elif match := _COLOURED.fullmatch(line):
            entries.append((where, match[4], _colour(match[1], match[2], match[3])))
        elif match := _CVAT.fullmatch(line):
            entries.append((where, match[1].strip(), _colour(match[2], match[3], match[4])))
        else:
            entries.append((where, line, None))
    return entries


def _colour(red: str, green: str, blue: str) -> Colour:
    """Of a number of any length enough to see that it is beyond 255."""
    return int(red[:9]), int(green[:9]), int(blue[:9])


def _from_json(path: Path, text: str) -> list[_Entry]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}); correct it, or write a text file with a class a line") from error
    if isinstance(document, dict):
        document = [{"name": name, "color": colour} for name, colour in document.items()]
    if not isinstance(document, list):
        raise DataError(f"{path} holds neither a list nor an object; write a list of names, or of objects with a name")
    return [_json_entry(path, number, entry) for number, entry in enumerate(document)]


def _json_entry(path: Path, number: int, entry: Any) -> _Entry:
    where = f"entry {number}"
    if isinstance(entry, str):
        return where, entry, None
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise DataError(f'{path}, {where} is {entry!r:.60}; write a name, or {{"name": ..., "color": [r, g, b]}}')
    colour = entry.get("color")
    if colour is None:
        return where, name, None
    ok = isinstance(colour, list) and len(colour) == 3 and all(type(part) is int and part >= 0 for part in colour)
    if not ok:
        raise DataError(
            f"{path}, {where}: the colour of {name!r:.60} is {colour!r:.60}; write [red, green, blue], 0 to 255"
        )
    return where, name, (colour[0], colour[1], colour[2])
