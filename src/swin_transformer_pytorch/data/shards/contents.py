"""Images of shards by number, as their files' bytes: what any task's data set can read them from."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ...checks import plural
from ...whole import replacing
from ..errors import ImageError, NothingFoundError
from ..held_out import Split
from ..images.remote import FetchedImage
from ..stores import Store
from .ahead import Ahead
from .cache import ShardCache, writing
from .errors import ShardError
from .index import BLOCK, Manifest, Part, Shard, ShardIndex, read_manifest
from .options import ShardOptions
from .places import MANIFEST, READING, is_url, local_path
from .tars import name_in

_log = logging.getLogger(__name__)


class ShardSet:
    """What `swin shards` has made: a manifest, and the shards of its parts.

    Args:
        root: the folder or address with `shards.json`.
        options: how shards are read.

    Attributes:
        classes: class names by index; none for images without labels.
        parts: the names of the parts, such as "train".

    Raises:
        NothingFoundError: there is no index.
        StoreError: it is damaged, or cannot be fetched.
    """

    def __init__(self, root: str | os.PathLike[str], options: ShardOptions | None = None) -> None:
        self.root, self.options = os.fspath(root), options or ShardOptions()
        if is_url(self.root):
            text = self._fetched(MANIFEST, None, None).decode(errors="replace")
        else:
            path = local_path(self.root) / MANIFEST
            if not path.is_file():
                raise NothingFoundError(
                    f"{path} is missing, the index of shards; `swin shards FOLDER OUT` packs images or indexes tars"
                )
            text = path.read_text(encoding="utf-8", errors="replace")
        self.manifest: Manifest = read_manifest(text, f"{self.root}/{MANIFEST}")
        self.classes, self.parts = self.manifest.classes, tuple(self.manifest.parts)

    def contents(self, part: str) -> ShardContents:
        """The images of a part; a `NothingFoundError` where there is none of the name."""
        if part not in self.manifest.parts:
            raise NothingFoundError(f"{self.root} has no part {part!r}; it has {', '.join(self.parts)}")
        chosen = self.manifest.parts[part]
        index = ShardIndex(self._index_file(chosen), chosen, len(self.classes))
        base = self.manifest.base or self.root
        if is_url(base):
            folder, limit = self.options.cache_folder, self.options.cache_bytes
            _check_limit(base, chosen.shards, self.options)
            if part == self.parts[0]:
                _log.warning(
                    "%s: shards are kept in %s, at most %g GB (data.shards.cache_gb)",
                    base,
                    folder,
                    self.options.cache_gb,
                )
            return ShardContents(index, Ahead(ShardCache(Store(base), folder, limit), chosen.shards))
        contents = ShardContents(index, local_path(base))
        contents.check_there()
        return contents

    def open_part(self, split: Split | None, *, val_fraction: float, seed: int) -> ShardContents:
        """The images of "train", "val" or "test"; None: those to evaluate, of val, else all of train.

        Where there is no part "val", a share of all training images, chosen by `seed`, is set apart for it.
        """
        if split == "test" or "val" in self.parts:
            return self.contents(split or "val")
        contents = self.contents("train")
        return contents.select_part(split, val_fraction, seed) if split is not None else contents

    def _index_file(self, part: Part) -> Path:
        if not is_url(self.root):
            return local_path(self.root) / part.index
        folder = self.options.cache_folder
        path = folder / "indexes" / f"{part.sha256}.npy"
        if not path.exists():
            with writing(folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as temporary, temporary.open("r+b") as file:
                    Store(self.root).fetch(part.index, file, sha256=part.sha256)
        return path

    def _fetched(self, name: str, size: int | None, sha256: str | None) -> bytes:
        file = io.BytesIO()
        Store(self.root).fetch(name, file, size=size, sha256=sha256)
        return file.getvalue()


def _check_limit(root: str, shards: Sequence[Shard], options: ShardOptions) -> None:
    """Raises a `ShardError` where the cache has no room for a shard."""
    sizes = sorted((shard.size for shard in shards), reverse=True)
    if sizes and sizes[0] > options.cache_bytes:
        raise ShardError(
            f"data.shards.cache_gb={options.cache_gb:g} is less than a shard of {root}: {sizes[0]:,} bytes"
        )


class ShardContents(Sequence[FetchedImage]):
    """The files of a part's images, each as its bytes with a name that messages show.

    It is also what data sets of files call `paths`: whatever looks into an image's file takes its bytes. Of one that is
    cut short items are what there is of it; `read` refuses it.

    Args:
        members: where the images lie.
        source: the shards' folder, or what fetches them.
        places: which of the images these are, rising; None for all.
    """

    def __init__(self, members: ShardIndex, source: Path | Ahead, places: NDArray[np.uint32] | None = None) -> None:
        self.members, self._source, self.places = members, source, places

    def __len__(self) -> int:
        return len(self.members) if self.places is None else len(self.places)

    @overload
    def __getitem__(self, index: int) -> FetchedImage: ...
    @overload
    def __getitem__(self, index: slice) -> ShardContents: ...
    def __getitem__(self, index: int | slice) -> FetchedImage | ShardContents:
        if isinstance(index, slice):
            return self.select(np.arange(*index.indices(len(self))) if self.places is None else self.places[index])
        return self._read(index)[0]

    def read(self, index: int) -> FetchedImage:
        """One image's file; an `ImageError` where its shard was cut short in it before it was indexed."""
        image, size = self._read(index)
        if len(image) < size:
            raise ImageError(
                f"{image.filename} is cut short, {len(image):,} of {plural(size, 'byte')}: its tar file was when "
                "it was indexed; pack or copy it again"
            )
        return image

    def select(self, places: NDArray[Any]) -> ShardContents:
        """Some of the index's images, of the same shards."""
        return ShardContents(self.members, self._source, places.astype(np.uint32))

    def choose(self, taken: NDArray[np.bool_]) -> ShardContents:
        """Those of these images that are `taken`."""
        return self.select(self._all_places()[taken])

    def select_part(self, split: Split, val_fraction: float, seed: int) -> ShardContents:
        """Those set apart for validation, or all others."""
        count = len(self)
        apart = min(max(round(count * val_fraction), 1), count - 1) if val_fraction > 0 and count >= 2 else 0
        chosen = np.zeros(count, dtype=np.bool_)
        chosen[np.random.default_rng(seed).permutation(np.arange(count, dtype=np.uint32))[:apart]] = True
        return self.choose(chosen == (split == "val"))

    @property
    def shard_counts(self) -> NDArray[np.int64]:
        """How many of these images each shard has."""
        if self.places is None:
            return np.diff(self.members.starts)
        return np.diff(np.searchsorted(self.places, self.members.starts))

    @property
    def labels(self) -> NDArray[np.int32]:
        """The class index of each, -1 for none."""
        return self.members.labels if self.places is None else self.members.labels[self.places]

    def label(self, index: int) -> int:
        """The class index of one, -1 for none."""
        place = range(len(self))[index]
        return int(self.members.labels[place if self.places is None else self.places[place]])

    @property
    def ahead(self) -> Ahead | None:
        """What fetches the shards; None where they are on this machine."""
        return self._source if isinstance(self._source, Ahead) else None

    @property
    def checksum(self) -> int:
        """Of all these images' content."""
        total = 0
        for start in range(0, len(self), 1 << 20):
            places = self._all_places()[start : start + (1 << 20)].astype(np.int64)
            total = zlib.crc32(self.members.contents(places).tobytes(), total)
        return total

    def fingerprints(self) -> NDArray[np.uint64]:
        """A number for each image, the same for two of one content."""
        return self.members.contents(self._all_places().astype(np.int64))

    def check_there(self) -> None:
        """Raises a `ShardError` of the first shard that is missing or has another size, before anything is read."""
        for number in range(len(self.members.shards)):
            with self._opened(number):
                pass

    def verify(self) -> Iterator[Shard]:
        """Reads each shard whole and compares its hash; yields after each. Raises a `ShardError` of the first other."""
        for place, shard in enumerate(self.members.shards):
            with self._opened(place) as handle, os.fdopen(os.dup(handle), "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                    raise self._changed(shard, "has other content")
            yield shard

    def _all_places(self) -> NDArray[Any]:
        return np.arange(len(self.members), dtype=np.uint32) if self.places is None else self.places

    def _read(self, index: int) -> tuple[FetchedImage, int]:
        """What there is of an image's file, and the size that it should have."""
        place = range(len(self))[index]
        if self.places is not None:
            place = int(self.places[place])
        number, offset, size, checksum = self.members.member(place)
        shard = self.members.shards[number]
        with self._opened(number) as handle:
            try:
                read = _read_at(handle, offset - BLOCK, min(BLOCK + size, shard.size))
            except OSError as error:
                raise ShardError(f"the shard {self._where(shard)} cannot be read ({error.strerror})") from error
        head, content = read[:BLOCK], read[BLOCK:]
        try:
            name = name_in(head)
        except tarfile.HeaderError:
            raise self._changed(shard, f"has no file at byte {offset:,}") from None
        if zlib.crc32(content) != checksum:
            raise self._changed(shard, f"has other content in {name}")
        image = FetchedImage(content)
        image.filename = f"{shard.name}/{name}"
        return image, size

    @contextmanager
    def _opened(self, number: int) -> Iterator[int]:
        shard = self.members.shards[number]
        if isinstance(self._source, Ahead):
            handle = self._source.open(number)
        else:
            handle = self._opened_here(self._source / shard.name, shard)
        try:
            yield handle
        finally:
            os.close(handle)

    def _opened_here(self, path: Path, shard: Shard) -> int:
        try:
            handle = os.open(path, READING)
        except FileNotFoundError as error:
            fix = "copy it there, or run `swin shards` again"
            raise ShardError(f"the shard {path} is missing; {fix}") from error
        except OSError as error:
            raise ShardError(f"the shard {path} cannot be opened ({error.strerror})") from error
        size = os.fstat(handle).st_size
        if size != shard.size:
            os.close(handle)
            raise self._changed(shard, f"has {size:,} bytes, and had {shard.size:,}")
        return handle

    def _changed(self, shard: Shard, how: str) -> ShardError:
        fix = "put the former back, or run `swin shards` again"
        return ShardError(f"the shard {self._where(shard)} {how} than when it was indexed; {fix}")

    def _where(self, shard: Shard) -> str:
        root = self._source.cache.store.root if isinstance(self._source, Ahead) else self._source
        return f"{root}/{shard.name}"


def _read_at(handle: int, start: int, count: int) -> bytes:
    """So many bytes, or those up to the end: a system may give fewer at once, as Linux does beyond 2 GB."""
    os.lseek(handle, start, os.SEEK_SET)
    read = os.read(handle, count)
    while len(read) < count and (more := os.read(handle, count - len(read))):
        read += more
    return read
