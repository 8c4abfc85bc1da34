"""Photos in folders, shards of them, and a store on loopback that is slow, fails, or changes what it has."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.shards.index import Manifest
from swin_transformer_pytorch.data.shards.pack import Files, pack


def picture(seed: int, size: tuple[int, int] = (20, 24)) -> bytes:
    """A PNG of noise, about 1.5 kB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def fill(root: Path, **counts: int) -> Path:
    """Class folders of so many pictures, all different."""
    number = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            (root / name / f"{index}.png").write_bytes(picture(number))
            number += 1
    return root


def pack_folder(root: Path, out: Path, *, shard_bytes: int = 10_000, seed: int = 0) -> Manifest:
    """Shards of about seven of these pictures, parted as training parts the folder."""
    train = ImageFolder(root, "train")
    parts = {
        name: Files(paths=one.paths, labels=one.labels) for name, one in (("train", train), ("val", train.part("val")))
    }
    return pack(parts, root, out, classes=train.classes, seed=seed, shard_bytes=shard_bytes)[0]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos", cat=30, dog=20, owl=25)


@pytest.fixture
def shards(photos: Path, tmp_path: Path) -> Path:
    pack_folder(photos, tmp_path / "shards")
    return tmp_path / "shards"


class Server(ThreadingHTTPServer):
    """Serves a folder, and does what a store may do.

    Attributes:
        fail: how many of the next requests for a name, or "*", are answered by this status.
        cut: how many of the next answers for it end in the middle.
        seconds: an answer takes.
        asked: how often each name was asked for.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.fail: dict[str, tuple[int, int]] = {}
        self.cut: Counter[str] = Counter()
        self.seconds = 0.0
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        with self.server.lock:
            self.server.asked[name] += 1
            for key in (name, "*"):
                count, status = self.server.fail.get(key, (0, 0))
                if count:
                    self.server.fail[key] = (count - 1, status)
                    self.send_error(status)
                    return
            cut = self.server.cut[name] > 0
            self.server.cut[name] -= cut
        path = self.server.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        time.sleep(self.server.seconds)
        if not cut:
            self.wfile.write(content[half:])

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A store of what a folder has."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def store(shards: Path) -> Iterator[Server]:
    with serving(shards) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are short."""
    monkeypatch.setattr("swin_transformer_pytorch.data.shards.stores._FIRST_PAUSE", 0.001)


Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture
def until() -> Wait:
    """Waits for something, at most ten seconds."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "it has not happened"
            time.sleep(0.01)

    return wait
