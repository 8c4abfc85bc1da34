"""An index of tar files that others have made."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ...checks import plural
from ...names import by_name
from ..errors import DataError, NothingFoundError, some
from ..held_out import part_name
from ..stores import Store
from .errors import ShardError
from .index import NO_LABEL, Manifest, Shard, as_columns, file_sha256, write_manifest, write_part
from .pack import Progress
from .places import CLASSES, MANIFEST, is_named, is_url, local_path
from .tars import Member, read_members

_COMPRESSED = (".tgz", ".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2")
_MOST_NUMBERED = 1_000_000
_SORTED = 0.5

_log = logging.getLogger(__name__)


def find_tars(source: str) -> tuple[str, list[str]]:
    """The folder or address of tar files, and their names below it, sorted.

    Args:
        source: a folder, with folders in it; or an address, or one of tar files with their numbers in braces, as in
            https://host/train-{0000..0123}.tar.

    Raises:
        NothingFoundError: there are none.
    """
    if is_named(source):
        base, _, pattern = source.rpartition("/")
        return base or ".", _expanded(pattern)
    if is_url(source):
        names = Store(source).names()
    else:
        folder = local_path(source)
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file())
    if compressed := [name for name in names if name.endswith(_COMPRESSED)]:
        _log.warning(
            "%s: %s passed over, as images in them cannot be found",
            source,
            plural(len(compressed), "compressed tar file"),
        )
    tars = [name for name in names if name.endswith(".tar")]
    if not tars:
        raise NothingFoundError(f"{source} holds no .tar files; give a folder of images, or of uncompressed tar files")
    return source, tars


def index_tars(
    source: str,
    folder: Path,
    *,
    classes: Sequence[str] = (),
    progress: Progress = lambda items, total, what: items,
) -> tuple[Manifest, Counter[str]]:
    """Writes the index of tar files of webdataset's layout, which stay as they are and where they are.

    Their parts are told by their names, such as train-0001.tar or val/0001.tar; those of none are "train". Where any
    image has a label, those without one are passed over.

    Args:
        source: see `find_tars`.
        folder: where the index goes: that of the tar files, or another one that is empty.
        classes: class names by index; none for those in classes.txt beside the tar files, else the labels themselves.
        progress: see `Progress`.

    Returns:
        What was written, and what was passed over, by kind.

    Raises:
        DataError: there is an index already, no image, or labels that the classes do not have.
    """
    base, names = find_tars(source)
    beside = not is_url(base) and folder.exists() and folder.resolve() == local_path(base).resolve()
    if (folder / MANIFEST).exists() or (not beside and folder.exists() and any(folder.iterdir())):
        raise DataError(f"{folder} is not empty, or holds an index; give a new folder, or remove {MANIFEST}")
    folder.mkdir(parents=True, exist_ok=True)
    passed_over: Counter[str] = Counter()
    found: list[tuple[Shard, NDArray[np.uint32]]] = []
    labels = _Labels(classes or _named_classes(base), base)
    for place in progress(range(len(names)), len(names), "indexing"):
        found.append(_index_one(base, names[place], labels, passed_over))
    mapping, final = labels.settled()
    parts: dict[str, list[tuple[Shard, NDArray[np.uint32]]]] = {}
    for shard, columns in found:
        if final:
            has_label = columns[3].view(np.int32) != NO_LABEL
            passed_over["images without a label"] += int((~has_label).sum())
            columns = columns[:, has_label]
            columns[3] = mapping[columns[3]]
        if columns.shape[1]:
            parts.setdefault(_part(shard.name), []).append((replace(shard, images=columns.shape[1]), columns))
    if not parts:
        raise NothingFoundError(f"{source} holds no images in its {plural(len(names), 'tar file')}")
    written = {}
    for part, of_part in parts.items():
        written[part] = write_part(folder, part, [one for one, _ in of_part], [columns for _, columns in of_part])
        if final:
            _tell_sorted(part, [columns[3] for _, columns in of_part], len(final))
    manifest = Manifest(classes=final, parts=written, base=None if beside else _absolute(base))
    write_manifest(folder, manifest)
    return manifest, +passed_over


class _Labels:
    """What labels are met, and what they are as indices of classes."""

    def __init__(self, classes: Sequence[str], of: str) -> None:
        self.classes, self.of = tuple(classes), of
        self._place = by_name({name: index for index, name in enumerate(self.classes)})
        self._met: dict[int | str, int] = {}

    def number(self, member: Member) -> int:
        """A number for its label for now; -1 for none."""
        if member.label is None:
            return NO_LABEL
        return self._met.setdefault(member.label, len(self._met))

    def settled(self) -> tuple[NDArray[np.uint32], tuple[str, ...]]:
        """The class index for each number that was given, and the classes' names."""
        if not self._met:
            return np.zeros(0, dtype=np.uint32), ()
        numbers = [label for label in self._met if isinstance(label, int)]
        if numbers and len(numbers) < len(self._met):
            texts = [label for label in self._met if isinstance(label, str)]
            raise DataError(f"{self.of} has labels that are numbers, and others that are none: {some(sorted(texts))}")
        if self.classes:
            places = {label: label if isinstance(label, int) else self._place(label) for label in self._met}
            strange = [str(label) for label, at in places.items() if at is None or not 0 <= at < len(self.classes)]
            if strange:
                raise DataError(
                    f"{self.of} has labels that are not among the {len(self.classes)} classes: {some(sorted(strange))}"
                )
            return np.array([*places.values()], dtype=np.uint32), self.classes
        if numbers:
            if not 0 <= min(numbers) <= max(numbers) < _MOST_NUMBERED:
                raise DataError(f"{self.of} has labels from {min(numbers)} to {max(numbers)}; number classes from 0")
            fix = f"{CLASSES} beside the tar files, or --classes FILE, names them, one a line"
            _log.warning("%s: its classes are called by their numbers, 0 to %d: %s", self.of, max(numbers), fix)
            return np.array(numbers, dtype=np.uint32), tuple(map(str, range(max(numbers) + 1)))
        final = sorted(map(str, self._met))
        index = {name: place for place, name in enumerate(final)}
        return np.array([index[str(label)] for label in self._met], dtype=np.uint32), tuple(final)


def _index_one(base: str, name: str, labels: _Labels, passed_over: Counter[str]) -> tuple[Shard, NDArray[np.uint32]]:
    if is_url(base):
        with tempfile.TemporaryDirectory(prefix="swin-shards-") as folder:
            path = Path(folder) / "shard.tar"
            with path.open("w+b") as file:
                Store(base).fetch(name, file)
            return _index_file(path, name, labels, passed_over)
    return _index_file(local_path(base) / name, name, labels, passed_over)


def _index_file(path: Path, name: str, labels: _Labels, passed_over: Counter[str]) -> tuple[Shard, NDArray[np.uint32]]:
    try:
        with path.open("rb") as file:
            members = read_members(file, name, passed_over)
            rows = [(one.offset, one.size, one.checksum, labels.number(one)) for one in members]
    except FileNotFoundError as error:
        raise ShardError(f"{path} is missing; check the name and the numbers in braces") from error
    shard = Shard(name=name, size=path.stat().st_size, images=len(rows), sha256=file_sha256(path))
    return shard, as_columns(rows)


def _expanded(pattern: str) -> list[str]:
    """The names that a pattern with one pair of braces, as of {0000..0123} or {train,val}, stands for."""
    match = re.fullmatch(r"([^{}]*)\{([^{}]*)\}([^{}]*)", pattern)
    if match is None:
        if "{" in pattern or "}" in pattern:
            raise DataError(
                f"{pattern!r:.200} is not understood: use one pair of braces, as in train-{{0000..0123}}.tar"
            )
        return [pattern]
    before, inside, after = match.groups()
    numbers = re.fullmatch(r"([0-9]{1,9})\.\.([0-9]{1,9})", inside)
    if numbers is None:
        return [f"{before}{one}{after}" for one in inside.split(",")]
    first, last = numbers.groups()
    if not 0 <= int(last) - int(first) < _MOST_NUMBERED:
        raise DataError(f"{{{inside}}} is from {first} to {last}; number tar files upwards, at most a million of them")
    return [f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]


def _part(name: str) -> str:
    """Which part a tar file's path names; "train" where it names none."""
    words = re.findall("[a-zA-Z]+", str(PurePosixPath(name).with_suffix("")))
    return next((part for part in map(part_name, reversed(words)) if part != "all"), "train")


def _absolute(base: str) -> str:
    return base if is_url(base) else os.fspath(local_path(base).resolve())


def _named_classes(base: str) -> tuple[str, ...]:
    path = local_path(base) / CLASSES
    return () if is_url(base) or not path.is_file() else read_classes(path)


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names by index from a file, one a line; a `DataError` where it cannot be read or has one twice."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); give a text file of class names, one a line") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DataError(f"{path} names {some(twice)} twice; name each class once")
    return names


def _tell_sorted(part: str, labels: Iterable[NDArray[np.uint32]], num_classes: int) -> None:
    """Says where shards have few of the classes that shuffled images would bring into them."""
    counts = np.stack([np.bincount(one.astype(np.int64), minlength=num_classes) for one in labels])
    shares = counts.sum(axis=0) / counts.sum()
    expected = (1 - (1 - shares) ** counts.sum(axis=1, keepdims=True)).sum(axis=1)
    there = (counts > 0).sum(axis=1)
    if len(counts) > 1 and (there / expected).mean() < _SORTED:
        text = (
            "%s: a shard has %.1f of %d classes on average, and would have %.1f if the images were shuffled: they mix "
        )
        text += "less than they should, unless data.shards.window spans many; pack the images anew to mend it"
        _log.warning(text, part, there.mean(), num_classes, expected.mean())
