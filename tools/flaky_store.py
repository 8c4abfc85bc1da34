"""A store on loopback that is slow, fails, cuts its answers short, or changes what it has: for tests and tools."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FlakyStore(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        fail: how many of the next requests for a name, or "*", are answered by which status.
        cut: how many of the next answers for a name end in the middle.
        seconds: that an answer takes, at least.
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

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is none."""


class _Handler(BaseHTTPRequestHandler):
    server: FlakyStore

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
def serving(folder: Path) -> Iterator[FlakyStore]:
    """A store of what a folder has."""
    server = FlakyStore(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
