"""Downloads against a server on this machine's loopback; no test reaches beyond it."""

import hashlib
import http.server
import socket
import threading
from contextlib import contextmanager

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from swin_transformer_pytorch.weights.checkpoint import open_checkpoint
from swin_transformer_pytorch.weights.download import DownloadError, fetch
from swin_transformer_pytorch.weights.files import CheckpointError, save_checkpoint

DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    data, etag, cut_at, content_type, ranges, status = DATA, '"one"', None, "application/octet-stream", True, 200
    content_range, looks_at_if_range, encoding = "right", True, None

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        self.close_connection = True
        server.requests.append(dict(self.headers))
        if server.status != 200:
            return self.send_error(server.status)
        start = 0
        asked = self.headers.get("Range")
        fresh = not server.looks_at_if_range or self.headers.get("If-Range") in (None, server.etag)
        if asked and server.ranges and fresh:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.data):
                return self.send_error(416)
            self.send_response(206)
            right = f"bytes {start}-{len(server.data) - 1}/{len(server.data)}"
            said = right if server.content_range == "right" else server.content_range
            if said is not None:
                self.send_header("Content-Range", said)
        else:
            self.send_response(200)
        if server.encoding:
            self.send_header("Content-Encoding", server.encoding)
        self.send_header("Content-Type", server.content_type)
        self.send_header("Content-Length", str(len(server.data) - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Connection", "close")
        self.end_headers()
        end = len(server.data) if server.cut_at is None else server.cut_at
        self.wfile.write(server.data[start:end])

    def log_message(self, *_):
        """Quiet."""


@contextmanager
def running():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server():
    with running() as server:
        yield server


def get(server, folder, name="model.pth", **arguments):
    return fetch(f"{server.url}/{name}", cache_dir=folder, progress=False, **arguments)


def test_fetched_once(server, tmp_path):
    first = get(server, tmp_path)
    assert first.read_bytes() == DATA
    assert get(server, tmp_path) == first
    assert len(server.requests) == 1
    assert not list(tmp_path.glob("*.part*"))


def test_default_place_is_torch_hubs(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = fetch(f"{server.url}/m.pth", sha256=SHA256[:8], progress=False)
    assert path == tmp_path / "hub" / "checkpoints" / "m.pth"


def test_two_addresses_of_one_name_are_two_files(server, tmp_path):
    assert get(server, tmp_path, "a/model.pth") != get(server, tmp_path, "b/model.pth")


def test_progress_goes_to_the_error_stream(server, tmp_path, capsys):
    fetch(f"{server.url}/model.pth", cache_dir=tmp_path, progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ranges", [True, False])
def test_cut_download_is_resumed(server, tmp_path, ranges):
    server.cut_at, server.ranges = 300_000, ranges
    with pytest.raises(DownloadError, match=r"cut short at 300,000 of 1,024,000 bytes: run it again to resume"):
        get(server, tmp_path)
    server.cut_at = None
    assert get(server, tmp_path).read_bytes() == DATA
    assert server.requests[1]["Range"] == "bytes=300000-"
    assert server.requests[1]["If-Range"] == '"one"'


def test_file_that_changed_meanwhile_starts_afresh(server, tmp_path):
    server.cut_at = 300_000
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    server.cut_at, server.data, server.etag = None, DATA[::-1], '"two"'
    assert get(server, tmp_path).read_bytes() == DATA[::-1]


def test_part_of_a_longer_file_starts_afresh(server, tmp_path):
    server.cut_at, server.etag = 300_000, None
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    server.cut_at, server.data = None, DATA[:1000]
    assert get(server, tmp_path).read_bytes() == DATA[:1000]


def test_hash_is_checked_where_there_is_one(server, tmp_path):
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == DATA
    assert get(server, tmp_path, f"swin-{SHA256[:12]}.pth").read_bytes() == DATA
    with pytest.raises(DownloadError, match=r"not the file that was published.*not deadbeef"):
        get(server, tmp_path, "other.pth", sha256="deadbeef")
    with pytest.raises(DownloadError, match="not the file that was published"):
        get(server, tmp_path, "other-deadbeef.pth")
    assert not list(tmp_path.glob("other*.pth"))
    # Eight digits may be a date.
    assert get(server, tmp_path, "other-20210902.pth").read_bytes() == DATA


def test_damaged_cache_is_found_and_fetched_again(server, tmp_path):
    path = get(server, tmp_path, sha256=SHA256)
    path.write_bytes(b"damaged")
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == DATA
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "content_range",
    [
        None,
        "",
        "bytes 0-1023999/1024000",
        "bytes 299999-1023999/1024000",
        "bytes 300000-1023999/1024001",
        "300000-",
        "x",
    ],
)
@pytest.mark.parametrize("etag", ['"one"', None])
def test_part_that_was_not_asked_for_is_not_taken(server, tmp_path, content_range, etag):
    """Another place, another length, or a server that does not say which: the file is fetched from its start."""
    server.cut_at, server.etag = 300_000, etag
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    server.cut_at, server.content_range = None, content_range
    assert get(server, tmp_path).read_bytes() == DATA
    assert ["Range" in request for request in server.requests] == [False, True, False]


@pytest.mark.parametrize(
    ("etag", "length"), [('"two"', None), ('"two"', 1_024_000), (None, 1_023_000), ('W/"one"', 1_023_000)]
)
def test_part_is_resumed_only_with_the_same_etag_or_length(server, tmp_path, etag, length):
    """Also where the server does not look at If-Range."""
    server.cut_at, server.etag = 300_000, '"one"' if etag else None
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    other = DATA[::-1][:length]
    server.cut_at, server.data, server.etag, server.looks_at_if_range = None, other, etag, False
    assert get(server, tmp_path).read_bytes() == other
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "origin", [None, b"", b"{", b"[1]", b'{"etag": null, "length": null}', b'{"more": 1}', b"\xff"]
)
def test_part_of_unknown_origin_starts_afresh(server, tmp_path, origin):
    server.cut_at = 300_000
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    (file,) = tmp_path.glob("*.part.origin")
    file.unlink() if origin is None else file.write_bytes(origin)
    server.cut_at = None
    assert get(server, tmp_path).read_bytes() == DATA
    assert "Range" not in server.requests[1]
    assert not list(tmp_path.glob("*.part*"))


def test_part_of_known_length_alone_is_resumed(server, tmp_path):
    server.cut_at, server.etag = 300_000, None
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    server.cut_at = None
    assert get(server, tmp_path).read_bytes() == DATA
    assert server.requests[1]["Range"] == "bytes=300000-"
    assert len(server.requests) == 2


def test_copy_is_replaced_only_by_a_whole_one(server, tmp_path):
    path = get(server, tmp_path)
    server.data, server.cut_at = DATA[::-1], 1000
    with pytest.raises(DownloadError, match="cut short"):
        get(server, tmp_path, again=True)
    assert path.read_bytes() == DATA
    server.cut_at = None
    assert get(server, tmp_path, again=True) == path
    assert path.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"<html>please log in"])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_copy_that_cannot_be_read_is_fetched_anew_once(server, tmp_path, monkeypatch, damage, ending):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    tensors = {"layers.0.blocks.0.norm1.weight": torch.arange(4.0)}
    save_checkpoint(tmp_path / f"m.{ending}", tensors)
    server.data = (tmp_path / f"m.{ending}").read_bytes()
    address = f"{server.url}/m.{ending}"
    assert torch.equal(*open_checkpoint(address).state_dict.values(), *tensors.values())
    (copy,) = (tmp_path / "home" / "hub" / "checkpoints").glob(f"*.{ending}")
    copy.write_bytes(damage(copy.read_bytes()))
    assert torch.equal(*open_checkpoint(address).state_dict.values(), *tensors.values())
    assert len(server.requests) == 2
    server.data = damage(server.data) or b"x"
    copy.write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged|neither|web page"):
        open_checkpoint(address)
    assert len(server.requests) == 3


def test_compressed_answer_is_refused(server, tmp_path):
    server.encoding = "gzip"
    with pytest.raises(DownloadError, match="comes compressed"):
        get(server, tmp_path)


def test_web_page_is_no_file(server, tmp_path):
    server.content_type = "text/html"
    with pytest.raises(DownloadError, match="is a web page"):
        get(server, tmp_path)


def test_server_says_no(server, tmp_path):
    server.status = 404
    with pytest.raises(DownloadError, match=r"model\.pth answered 404 .*: check the address"):
        get(server, tmp_path)


def test_nobody_answers(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(f"http://127.0.0.1:{port}/m.pth", cache_dir=tmp_path, progress=False)


def test_two_at_once_download_once(server, tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(get(server, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(server.requests) == 1


def test_local_address(tmp_path):
    path = tmp_path / "a b.pth"
    path.write_bytes(DATA)
    assert fetch(path.as_uri(), sha256=SHA256) == path
    with pytest.raises(DownloadError, match="not the file that was published"):
        fetch(path.as_uri(), sha256="00")
    assert path.exists()
    with pytest.raises(DownloadError, match="there is no file"):
        fetch((tmp_path / "gone.pth").as_uri())


@pytest.mark.parametrize("source", ["ftp://host/m.pth", "http://host/", "m.pth", "hf:just-a-name", "hf:"])
def test_what_is_no_address(source):
    with pytest.raises(DownloadError, match="is not an address"):
        fetch(source)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has given files, or raises a given error."""
    files = {}

    def hf_hub_download(repository, name, revision=None, cache_dir=None, force_download=False):
        place = f"{repository}@{revision}" if revision else repository
        content = files.get(f"{place}/{name}", EntryNotFoundError("no such entry"))
        if isinstance(content, Exception):
            raise content
        path = tmp_path / name.replace("/", "_")
        if force_download or not path.exists():
            path.write_bytes(content)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return files


def test_hub_file_by_name_and_by_habit(hub, tmp_path):
    hub |= {"o/r/model.safetensors": b"a", "o/old/pytorch_model.bin": b"b", "o/r/sub/x.pth": b"c"}
    hub |= {"o/r@v1.0/model.safetensors": b"d", "o/r@v1.0/sub/x.pth": b"e"}
    assert fetch("hf:o/r").read_bytes() == b"a"
    assert fetch("hf:o/old").read_bytes() == b"b"
    assert fetch("hf:o/r/sub/x.pth").read_bytes() == b"c"
    assert fetch("hf:o/r@v1.0/sub/x.pth", again=True).read_bytes() == b"e"
    (tmp_path / "model.safetensors").unlink()
    assert fetch("hf:o/r@v1.0").read_bytes() == b"d"


def test_hub_shards_come_with_their_index(hub, tmp_path):
    index = b'{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}'
    hub |= {"o/r/model.safetensors.index.json": index, "o/r/m-1.safetensors": b"1"}
    with pytest.raises(DownloadError, match=r"no file m-2\.safetensors, which its model\.safetensors\.index\.json"):
        fetch("hf:o/r")
    hub["o/r/m-2.safetensors"] = b"2"
    assert fetch("hf:o/r").read_bytes() == index
    assert (tmp_path / "m-2.safetensors").read_bytes() == b"2"


def test_damaged_hub_file_is_fetched_again(hub, tmp_path):
    hub["o/r/x.pth"] = DATA
    fetch("hf:o/r/x.pth", sha256=SHA256).write_bytes(b"damaged")
    assert fetch("hf:o/r/x.pth", sha256=SHA256).read_bytes() == DATA
    hub["o/r/x.pth"] = b"another"
    with pytest.raises(DownloadError, match="not the file that was published"):
        fetch("hf:o/r/x.pth", sha256=SHA256[::-1])


def test_hub_without_the_file(hub):
    with pytest.raises(
        DownloadError, match=r"hf:o/r: the repository has no file model\.safetensors or .* or pytorch_model\.bin"
    ):
        fetch("hf:o/r")
    with pytest.raises(DownloadError, match=r"no file x\.pth"):
        fetch("hf:o/r/x.pth")


def test_hub_out_of_reach(hub):
    hub["o/r/model.safetensors"] = LocalEntryNotFoundError("offline")
    with pytest.raises(
        DownloadError,
        match=r"hf:o/r cannot be reached and is not in the cache: .*weights=.*--weights.*--model\.weights",
    ):
        fetch("hf:o/r")
