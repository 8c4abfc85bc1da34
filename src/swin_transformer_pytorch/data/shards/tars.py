"""Tar files of webdataset's layout: files of one name and different endings, side by side, are one sample."""

from __future__ import annotations

import io
import json
import logging
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ...whole import replacing
from ..images.files import INPUT_SUFFIXES
from .errors import ShardError
from .index import NO_LABEL

CLASS = ".cls"
"""The ending of the file that holds an image's class index as text."""

_JSON_LABELS = ("label", "cls", "class", "class_name")
_MOST_LABEL_BYTES = 1 << 20
_LARGEST = 2**32 - 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Member:
    """An image in a tar file.

    Attributes:
        name: its path in it.
        offset: where its content begins, in bytes.
        size: of the content as the tar file says.
        checksum: CRC-32 of what there is of it.
        label: its class, by index or name; None where the sample has none.
    """

    name: str
    offset: int
    size: int
    checksum: int
    label: int | str | None = None


def read_members(file: BinaryIO, name: str, passed_over: Counter[str]) -> Iterator[Member]:
    """The images of a tar file with their labels.

    A sample's image is its first file of a known ending. Its label is what its .cls file says, a number or a name, or
    of its .json file the value of "label", "cls", "class" or "class_name".

    Args:
        file: the tar file, open at its beginning.
        name: what messages call it.
        passed_over: counts what is none of these, by kind.

    Raises:
        ShardError: it is no tar file, or a compressed one.
    """
    image: Member | None = None
    label: int | str | None = None
    sample = None
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            for entry in archive:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
                if not entry.isreg() or entry.issparse():
                    passed_over["entries that are no files"] += not entry.isdir()
                    continue
                stem, suffix = split_name(entry.name)
                if stem != sample:
                    if image is not None:
                        yield replace(image, label=label)
                    image, label, sample = None, None, stem
                if suffix in INPUT_SUFFIXES and image is None and entry.size <= _LARGEST:
                    content = _content(file, entry)
                    passed_over["images that are cut short: they cannot be used"] += len(content) < entry.size
                    checksum = zlib.crc32(content)
                    image = Member(name=entry.name, offset=entry.offset_data, size=entry.size, checksum=checksum)
                elif suffix in (CLASS, ".json") and label is None and entry.size <= _MOST_LABEL_BYTES:
                    label = _label(_content(file, entry), suffix)
                    passed_over[f"{suffix} files without a label"] += label is None
                else:
                    passed_over[f"{suffix or 'other'} files"] += 1
    except tarfile.ReadError as error:
        if sample is None:
            raise ShardError(f"{name} is no tar file, or is compressed ({error}); give plain tar files") from error
        _log.warning("%s is cut short (%s); what comes before is taken", name, error)
    if image is not None:
        yield replace(image, label=label)


def name_in(header: bytes) -> str:
    """A file's name by the block before its content; a `tarfile.HeaderError` where that is none."""
    if header[257:262] != b"ustar":
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name
    # As above, in a tenth of the time: each image that is read has its name.
    name = header[:100].partition(b"\0")[0]
    if header[257:265] == b"ustar\x0000" and (prefix := header[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def split_name(name: str) -> tuple[str, str]:
    """What a sample's files have in common, and the last ending, in small letters, as webdataset parts them."""
    path = PurePosixPath(name)
    stem, _, rest = path.name.partition(".")
    return f"{path.parent}/{stem}", f".{rest.rpartition('.')[2].lower()}" if rest else ""


def _content(file: BinaryIO, entry: tarfile.TarInfo) -> bytes:
    """What there is of it: the last file of a tar file that was cut may be short."""
    file.seek(entry.offset_data)
    return file.read(entry.size)


def _label(content: bytes, suffix: str) -> int | str | None:
    text = content.decode("utf-8", "replace").strip()
    if suffix == CLASS:
        return _number_or_name(text)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found: Any = (
        next((values[key] for key in _JSON_LABELS if key in values), None) if isinstance(values, dict) else None
    )
    if isinstance(found, bool) or not isinstance(found, int | str):
        return None
    return _number_or_name(found) if isinstance(found, str) else found


def _number_or_name(text: str) -> int | str | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text or None


def write_tar(path: Path, samples: Iterable[tuple[str, bytes, int | None]]) -> list[tuple[int, int, int, int]]:
    """Writes a tar file of images; the same samples give the same bytes.

    Args:
        path: the file, which is put in place when it is whole.
        samples: (name in it, content, class index or None) of each image; the class goes into a file beside it.

    Returns:
        (offset, size, CRC-32, class index or -1) of each image.
    """
    rows = []
    with replacing(path) as temporary, temporary.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
            for name, content, label in samples:
                if label is not None:  # before the image: where that is cut off, its class is known
                    _add(archive, f"{name.rpartition('.')[0]}{CLASS}", str(label).encode())
                offset = _add(archive, name, content)
                rows.append((offset, len(content), zlib.crc32(content), NO_LABEL if label is None else label))
                archive.members = []  # type: ignore[attr-defined]
    return rows


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> int:
    """Adds a file without time or owner; where its content begins."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
    return archive.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
