"""Images from http addresses, of a server on this machine's loopback; no test reaches beyond it."""

import http.server
import io
import threading
from contextlib import contextmanager
from urllib.parse import unquote

import pytest
from PIL import Image
from torch import nn

from swin_transformer_pytorch import addresses
from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.data.images import remote
from swin_transformer_pytorch.predict import Predictor, predict_files
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

_FILE = io.BytesIO()
Image.new("RGB", (9, 7), "red").save(_FILE, format="PNG")
PNG = _FILE.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        path = unquote(self.path).partition("?")[0]
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/photo.png")
            return self.end_headers()
        if path == "/gone":
            return self.send_error(404)
        page = b"<!doctype html><p>log in"
        bodies = {"/page": page, "/empty": b"", "/cut": PNG, "/bytes": b"\0\1\2" * 50, "/large": PNG + bytes(5000)}
        body = bodies.get(path, PNG)
        self.send_response(200)
        if path != "/large":  # of unknown length
            self.send_header("Content-Length", str(len(body) + 9 * (path == "/cut")))
        self.end_headers()
        if path == "/silent":
            self.server.over.wait(20)
        else:
            self.wfile.write(body)

    def log_message(self, *words):
        pass


@contextmanager
def serving():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.over = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


class Means(nn.Module):
    task, num_classes, classes = "classification", 3, ("red", "green", "blue")
    preprocessing = Preprocessing(image_size=8, resize_size=8, mean=(0.0,) * 3, std=(0.1,) * 3)

    def forward(self, images):
        return images.mean(dim=(2, 3))


@pytest.mark.parametrize(
    "path", ["/photo.png", "/a%20b/caf%C3%A9.jpg?size=3&x=[1]", "/caf\u00e9 photo.png", "/moved", "/"]
)
def test_an_image_is_read_from_its_address(path):
    with serving() as (server, url):
        result = Predictor(Means(), device="cpu")(url + path)
        assert result.names[0] == "red"
        assert result.plot(url + path).width == 320
        assert len(server.asked) == (4 if path == "/moved" else 2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone", "answered 404 Not Found; check the address"),
        ("/page", "holds a web page"),
        ("/empty", "is empty"),
        ("/bytes", "is no image"),
        ("/cut", "was cut short \\(9 bytes are missing\\)"),
        ("/large", "has more than 1,000 bytes; download it"),
        ("/silent", "was cut short .*timed out"),
    ],
)
def test_one_that_cannot_be_had_is_one_line_that_names_it(path, message, monkeypatch):
    monkeypatch.setattr(remote, "_MOST_BYTES", 1000)
    monkeypatch.setattr(addresses, "_TIMEOUT_SECONDS", 0.5)
    with serving() as (_, url):
        with pytest.raises(ImageError, match=message) as raised:
            Predictor(Means(), device="cpu")(url + path)
        assert str(raised.value).startswith(url + path) and "\n" not in str(raised.value)
        good, bad, again = predict_files(
            Predictor(Means(), device="cpu"), [f"{url}/a?b=*", url + path, f"{url}/c", url + path]
        )
        assert (good[1].names[0], str(bad[1]), again[1].names[0]) == ("red", str(raised.value), "red")


def test_one_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(remote, "_MOST_SECONDS", -1)
    with serving() as (_, url), pytest.raises(ImageError, match="takes more than -1 s"):
        Predictor(Means(), device="cpu")(f"{url}/photo.png")


@pytest.mark.parametrize(
    "address", ["http://", "http://127.0.0.1:x/a.png", "http://[::1/a.png", "http://127.0.0.1:1/a.png"]
)
def test_an_address_that_leads_nowhere(address):
    with pytest.raises(ImageError, match="check the address and the network") as raised:
        Predictor(Means(), device="cpu")(address)
    assert str(raised.value).startswith(address)


def test_other_schemes_are_paths():
    for other in ("ftp://127.0.0.1/a.png", "file:///etc/hostname", "s3://bucket/a.png"):
        with pytest.raises(ImageError, match="does not exist; download it first"):
            Predictor(Means(), device="cpu")(other)
