"""Fetches checkpoint files: from the Hugging Face hub, or by URL, resumed where a download was cut and checked."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import torch
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ..addresses import failure, open_address
from .folders import INDEX, WEIGHTS, shards

_BLOCK = 1 << 20
WEIGHTS_OPTIONS = "weights= (on the command line --weights, `swin web`'s SOURCE, a recipe's --model.weights)"
"""How messages name what says where weights are."""

_ANOTHER_WAY = f"check the network, or give a file as {WEIGHTS_OPTIONS}"
_HUB_FILE = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>.+))?")
# A name like swin_t-704ceda3.pth ends in the first digits of the file's hash. Digits alone may be a date.
_HASH_IN_NAME = re.compile(r"-(?=[0-9]*[a-f])([0-9a-f]{8,64})\.(?:pth|pt|bin|safetensors)$")


class DownloadError(ValueError):
    """A file that could not be fetched. The message names its address and the fix."""


def fetch(
    source: str,
    *,
    sha256: str | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    again: bool = False,
) -> Path:
    """A local copy of `source`: the cached one, or a fresh download.

    Args:
        source: `hf:owner/repo/file` or `hf:owner/repo` (the first of `WEIGHTS` that it has, with the shards that an
            index lists), each also as `hf:owner/repo@revision`, or an http(s):// or file:// URL.
        sha256: the file's hash or its first digits. None takes those in the file's name, where there are some.
        cache_dir: where copies are kept. None is torch.hub's checkpoint folder, or the Hugging Face cache for `hf:`.
        progress: show a bar on the standard error stream.
        again: fetch it even if there is a copy, which is replaced when the new one is whole. A copy that has another
            hash is replaced in any case.

    Raises:
        DownloadError: unreachable, no such file, cut short, or another file than the hash says.
    """
    if source.startswith("hf:"):
        return _fetch_from_hub(source, sha256, cache_dir, again)
    url = urllib.parse.urlsplit(source)
    name = Path(urllib.parse.unquote(url.path)).name
    if sha256 is None and (match := _HASH_IN_NAME.search(name)):
        sha256 = match[1]
    if url.scheme == "file":
        path = Path(urllib.request.url2pathname(url.path))
        if not path.is_file():
            raise DownloadError(f"{source}: there is no file {path}; check the address")
        _check(path, source, sha256)
        return path
    if url.scheme not in ("http", "https") or not name:
        raise DownloadError(f"{source!r} is not an address of a file: use hf:owner/repo/file or an http(s) or file URL")
    folder = Path(cache_dir) if cache_dir is not None else Path(torch.hub.get_dir()) / "checkpoints"
    # Two addresses may end in one name; only a hash makes the name alone safe.
    target = folder / (name if sha256 else f"{Path(name).stem}-{_digest(source)}{Path(name).suffix}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Several processes of one training start at once: one downloads, the others find the file.
        with FileLock(f"{target}.lock"):
            if again or not target.exists() or not _is_right(target, sha256):
                part = Path(f"{target}.part")
                _download(source, part, progress)
                _check(part, source, sha256, remove=True)
                part.replace(target)
                _origin_file(part).unlink(missing_ok=True)
    except OSError as error:
        raise DownloadError(f"{source} could not be stored in {folder}: {error.strerror or error}") from error
    return target


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _is_right(path: Path, sha256: str | None) -> bool:
    return sha256 is None or _hash(path).startswith(sha256.lower())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, source: str, sha256: str | None, *, remove: bool = False) -> None:
    if _is_right(path, sha256):
        return
    found = _hash(path)
    if remove:
        path.unlink()
    raise DownloadError(
        f"{source} is not the file that was published: its sha256 is {found[:16]}..., not {sha256}...; "
        + ("the copy was removed, try again" if remove else "fetch it again")
    )


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """Of which file a part is, as its server told: the two never both unknown, or it is not gone on with."""

    etag: str | None = None
    length: int | None = None

    def agrees(self, other: _Origin) -> bool:
        pairs = [(self.etag, other.etag), (self.length, other.length)]
        known = [(mine, its) for mine, its in pairs if mine is not None and its is not None]
        return bool(known) and all(mine == its for mine, its in known)


def _origin_file(part: Path) -> Path:
    return Path(f"{part}.origin")


def _read_origin(part: Path) -> _Origin:
    try:
        return _Origin(**json.loads(_origin_file(part).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return _Origin()


class _OtherFileError(Exception):
    """The server has another file than the part is of, or does not say which part it sends."""


def _download(url: str, part: Path, progress: bool) -> None:
    """Appends to `part` what it lacks; a cut download leaves it, to be resumed."""
    origin = _read_origin(part)
    have = part.stat().st_size if part.exists() and origin != _Origin() else 0
    headers = {}
    if have:
        headers["Range"] = f"bytes={have}-"
        if origin.etag:
            headers["If-Range"] = origin.etag
    try:
        with open_address(url, headers) as response:
            _save(response, url, part, origin, have, progress)
        return
    except _OtherFileError as error:
        if not have:
            raise DownloadError(f"{url} answered with {error}: check the address") from error
    except urllib.error.HTTPError as error:
        error.close()
        # 416: the part is longer than the file, so it is of another one.
        if error.code != 416 or not have:
            raise DownloadError(f"{url} {failure(error)}: check the address") from error
    except urllib.error.URLError as error:
        raise DownloadError(f"{url} {failure(error)}: {_ANOTHER_WAY}") from error
    except (HTTPException, TimeoutError, ConnectionError) as error:
        raise DownloadError(f"{url} {failure(error)}: run it again to resume") from error
    part.unlink()
    _download(url, part, progress)


def _save(response: HTTPResponse, url: str, part: Path, origin: _Origin, have: int, progress: bool) -> None:
    if response.headers.get_content_type() == "text/html":
        raise DownloadError(f"{url} is a web page, not a file: give the address of the file itself")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError(f"{url} comes compressed though it should not: give another address of the file")
    etag = response.headers.get("ETag")
    # If-Range takes strong tags only.
    etag = None if etag is None or etag.startswith("W/") else etag
    if response.status == 206:
        start, total = _content_range(response.headers.get("Content-Range"))
        if start != have or not have or not origin.agrees(_Origin(etag=etag, length=total)):
            raise _OtherFileError("a part of the file that was not asked for")
    else:
        length = response.headers.get("Content-Length", "")
        start, total = 0, int(length) if length.isdecimal() else None
        part.unlink(missing_ok=True)
        _origin_file(part).write_text(json.dumps({"etag": etag, "length": total}), encoding="utf-8")
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise DownloadError(f"{url} has {total - start:,} bytes, but {part.parent} has {free:,} free: make room there")
    received = start
    with part.open("ab") as file, _bar(progress) as bar:
        task = bar.add_task(part.stem, total=total, completed=start)
        while block := response.read(_BLOCK):
            file.write(block)
            received += len(block)
            bar.advance(task, len(block))
    if total is not None and received > total:
        part.unlink()
        raise DownloadError(f"{url} sent {received:,} bytes of {total:,}: run it again")
    if total is not None and received < total:
        raise DownloadError(f"{url} was cut short at {received:,} of {total:,} bytes: run it again to resume")


def _content_range(text: str | None) -> tuple[int | None, int | None]:
    """First byte and length of the whole file, as `bytes 100-199/1000` says; None where it does not."""
    match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", (text or "").strip())
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _bar(shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)


def fetch_beside(address: str, *names: str) -> bool:
    """Brings files of a hub repository beside the weights that `fetch` brought of it, those that it has.

    Returns:
        Whether the first of them is there now. Of an address that is no whole repository none is fetched, and none
        where the hub is out of reach, which the weights in the cache need not be.
    """
    match = _HUB_FILE.fullmatch(address)
    if match is None or match["file"]:
        return False
    try:
        return [_from_hub(match["repository"], match["revision"], name, address) for name in names][0] is not None
    except DownloadError:
        return False


def _fetch_from_hub(source: str, sha256: str | None, cache_dir: str | Path | None, again: bool) -> Path:
    match = _HUB_FILE.fullmatch(source)
    if match is None:
        raise DownloadError(
            f"{source!r} is not an address on the hub: use hf:owner/repo or hf:owner/repo/file, for a revision "
            "hf:owner/repo@revision"
        )
    repository, revision, file = match["repository"], match["revision"], match["file"]
    bring = functools.partial(_from_hub, repository, revision, source=source, cache_dir=cache_dir)
    for name in (file,) if file else WEIGHTS:
        path = bring(name, again=again)
        if path is None:
            continue
        if not again and not _is_right(path, sha256):
            path = bring(name, again=True) or path
        _check(path, source, sha256)
        for shard in shards(path) if name.endswith(INDEX) else ():
            if bring(shard, again=again) is None:
                raise DownloadError(f"{source}: the repository has no file {shard}, which its {name} lists")
        return path
    wanted = file or " or ".join(WEIGHTS)
    raise DownloadError(f"{source}: the repository has no file {wanted}; name another as hf:{repository}/file")


def _from_hub(
    repository: str,
    revision: str | None,
    name: str,
    source: str,
    *,
    cache_dir: str | Path | None = None,
    again: bool = False,
) -> Path | None:
    """One file of a repository; None where that has none of this name."""
    # Imported here: it is slow to import, and local files do not need it.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(hf_hub_download(repository, name, revision=revision, cache_dir=cache_dir, force_download=again))
    except LocalEntryNotFoundError as error:
        raise DownloadError(f"{source} cannot be reached and is not in the cache: {_ANOTHER_WAY}") from error
    except EntryNotFoundError:
        return None
    except RevisionNotFoundError as error:
        raise DownloadError(f"{source}: {repository} has no revision {revision}; check its name") from error
    except RepositoryNotFoundError as error:
        raise DownloadError(f"{source}: the hub has no public repository {repository}; check its name") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DownloadError(f"{source} could not be fetched ({reason}): check the address and the network") from error
