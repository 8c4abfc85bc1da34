"""Text, JSON, YAML and XML that annotation tools write, read with bounds; what cannot be read is named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from .errors import DataError

_LARGEST = 1 << 28  # bytes, of files that are one image's, or a project's of some 100,000 images
_HEAD = 1 << 14


def read_bytes(path: Path, what: str, *, largest: int | None = _LARGEST) -> bytes:
    """A file's content; a `DataError` where it is missing, no regular file, or has more than `largest` bytes."""
    try:
        if not path.is_file() and path.exists():
            raise DataError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}; give {what}")
        if largest is not None and path.stat().st_size > largest:
            raise DataError(f"{path} has more than {largest:,} bytes, too many for {what}; split it")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give {what}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def head(path: Path) -> str:
    """The beginning of a file, to tell what it is; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8-sig", "replace").lstrip() if path.is_file() else ""
    except OSError:
        return ""


def annotation_file(
    root: Path, pattern: str, what: str, *, fix: str, is_one: Callable[[Path], bool] = Path.is_file
) -> Path | None:
    """The one file below a data set's folder that a pattern stands for, or None.

    Args:
        what: what it is of, such as a part's name.
        fix: what may be given by name instead.
        is_one: whether a file of that name is one at all.

    Raises:
        DataError: there are several.
    """
    # Sorted and without hidden files, such as those of another system's file browser.
    visible = sorted(path for path in root.glob(pattern) if path.is_file() and not path.name.startswith("._"))
    found = [path for path in visible if is_one(path)]
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in found)
        raise DataError(
            f"{root} has several annotation files for {what!r}: {names}; keep one of them there, or give {fix} by name"
        )
    return found[0] if found else None


def holds_choices(text: str) -> bool:
    """Whether a file that begins so is Label Studio's of images whose labels were chosen, without any place in them."""
    chosen = any(sign in text for sign in ('"choices"', '"choice"'))  # of JSON-MIN, what a template calls the only one
    return (chosen and text.startswith("[") or is_tasks_csv(text)) and "original_width" not in text


def is_tasks_csv(text: str) -> bool:
    """Whether a file that begins so is Label Studio's export "CSV"."""
    return {"annotation_id", "annotator"} <= {name.strip('"') for name in text.partition("\n")[0].strip().split(",")}


def read_text(path: Path, what: str) -> str:
    try:
        return read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error}); give {what}") from error


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file, without those that are blank."""
    return [line.strip() for line in read_text(path, what).splitlines() if line.strip()]


def read_json(path: Path, what: str, *, largest: int | None = _LARGEST) -> Any:
    content = read_bytes(path, what, largest=largest)
    try:
        return json.loads(content)
    # Numbers of thousands of digits and lists in each other are none that can be read, either.
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); copy or export it again") from error


def read_tasks(path: Path, what: str) -> Any:
    """Label Studio's exports "JSON", "JSON-MIN" and "CSV": a row of the latter is what JSON-MIN has of it."""
    if path.suffix.lower() != ".csv":
        return read_json(path, what)
    rows = csv.DictReader(io.StringIO(read_text(path, what), newline=""))
    try:
        return [{name: _parsed(cell) for name, cell in row.items() if cell} for row in rows]
    except csv.Error as error:
        raise DataError(f"{path} is no CSV that can be read ({error}); export it again") from error


def _parsed(cell: Any) -> Any:
    """What is JSON's list or object as that."""
    try:
        return json.loads(cell) if isinstance(cell, str) and cell.startswith(("[", "{")) else cell
    except (ValueError, RecursionError):
        return cell


def read_yaml(path: Path, what: str) -> Any:
    try:
        return yaml.safe_load(read_bytes(path, what))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not YAML ({' '.join(str(error).split()):.200}); correct it") from error


class _NoDoctype(ElementTree.TreeBuilder):
    """A document type can define entities that stand for more than fits in memory, and no tool writes one."""

    def doctype(self, name: str, public: str, system: str) -> None:
        raise ValueError("it has a DOCTYPE, which could define entities without bounds")


def read_xml(path: Path, what: str) -> ElementTree.Element:
    """The root element; a `DataError` for what is no XML, or has a document type."""
    try:
        return ElementTree.fromstring(
            read_bytes(path, what), parser=ElementTree.XMLParser(target=_NoDoctype())
        )  # a bound on bytes is one on elements
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not XML that can be read ({error}); copy or export it again") from error
