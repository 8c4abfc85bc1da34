"""Many requests, failing models and clients that misbehave, at a real server."""

from __future__ import annotations

import io
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.web import body
from swin_transformer_pytorch.web.server import ListenError, listen

from .conftest import PATIENCE, Running, Serve, Waiting, classifier


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def busy(running: Running) -> int:
    return running.client.get("/health").json()["busy"]["clothes"]


def send(running: Running, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)
    connection.sendall(data)
    return connection


def head(length: int | None, more: str = "") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST /predict HTTP/1.1\r\nHost: localhost\r\n{size}\r\n{more}\r\n".encode()


def status_of(connection: socket.socket) -> int:
    with connection, connection.makefile("rb") as answer:
        return int(answer.readline().split()[1])


def test_concurrent_requests_share_batches_and_each_gets_its_own_answer(
    serve: Serve, waiting: Waiting, pool: ThreadPoolExecutor
) -> None:
    images = [png_of(np.random.default_rng(seed).integers(0, 256, (28, 28), np.uint8)) for seed in range(7)]
    with serve({"clothes": waiting}) as running:
        first = pool.submit(running.post, images[0])
        assert waiting.called.wait(PATIENCE)
        others = [pool.submit(running.post, image) for image in images[1:]]
        bad = pool.submit(running.post, b"no image")
        until(lambda: busy(running) == 8)
        waiting.go.set()
        answers = [one.result().json() for one in (first, *others)]
        assert bad.result().status_code == 400
    # The bad image has a place in a batch, but is not predicted for.
    assert waiting.batches[0] == 1 and sum(waiting.batches) == 7 and len(waiting.batches) == 3
    for image, answer in zip(images, answers, strict=True):
        expected = waiting(image)
        assert answer["labels"] == list(expected.labels)
        assert np.allclose(answer["scores"], expected.scores, atol=1e-5)


def png_of(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_what_is_too_much_is_refused_at_once_and_then_taken_again(
    serve: Serve, waiting: Waiting, pool: ThreadPoolExecutor, shoe: bytes
) -> None:
    with serve({"clothes": waiting}, max_queue=3) as running:
        taken = [pool.submit(running.post, shoe) for _ in range(3)]
        until(lambda: busy(running) == 3)
        refused = running.post(shoe)
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
        assert "3 places" in refused.json()["detail"]
        waiting.go.set()
        assert [one.result().status_code for one in taken] == [200] * 3
        assert running.post(shoe).status_code == 200 and busy(running) == 0


def test_more_connections_than_there_may_be_are_refused(serve: Serve, waiting: Waiting) -> None:
    with serve({"clothes": waiting}, connections=3) as running:
        held = [send(running, b"") for _ in range(3)]
        until(lambda: len(running.server.server_state.connections) == 3)
        assert running.client.get("/health").status_code == 503
        for connection in held:
            connection.close()
        until(lambda: running.client.get("/health").status_code == 200)


@pytest.mark.parametrize("leaves", ["late", "gone"])
def test_work_that_nobody_waits_for_is_not_begun(
    serve: Serve, waiting: Waiting, pool: ThreadPoolExecutor, shoe: bytes, leaves: str
) -> None:
    seconds = 0.5 if leaves == "late" else PATIENCE
    with serve({"clothes": waiting}, timeout=seconds) as running:
        first = pool.submit(running.post, shoe)
        assert waiting.called.wait(PATIENCE)
        if leaves == "late":
            late = [pool.submit(running.post, shoe) for _ in range(2)]
            for one in (first, *late):
                assert one.result().status_code == 504 and "0.5 s" in one.result().json()["detail"]
        else:
            second = send(running, head(len(shoe)) + shoe)
            until(lambda: busy(running) == 2)
            second.close()
            until(lambda: busy(running) == 1)
        waiting.go.set()
        until(lambda: busy(running) == 0)
        assert running.post(shoe).status_code == 200
    assert waiting.batches == [1, 1]


@pytest.mark.parametrize("method", ["prepare", "predict_prepared"])
@pytest.mark.parametrize("error", [RuntimeError("secret/path"), MemoryError(), ValueError()])
def test_a_model_that_fails_is_a_500_and_answers_the_next(
    serve: Serve, waiting: Waiting, shoe: bytes, monkeypatch, caplog, method: str, error: Exception
) -> None:
    waiting.go.set()

    def fail(*_: object) -> None:
        raise error

    with serve({"clothes": waiting}) as running:
        with monkeypatch.context() as patch:
            patch.setattr(waiting, method, fail)
            failed = running.post(shoe)
        assert failed.status_code == 500 and "log" in failed.json()["detail"] and "secret" not in failed.text
        assert type(error).__name__ in caplog.text
        assert running.post(shoe).status_code == 200 and busy(running) == 0


BAD_REQUESTS = {
    "slow body": (head(1000) + b"x", 408),
    "slow chunks": (head(None) + b"5\r\nabc", 408),
    "declared too large": (head(10**12), 413),
    "a number that is none": (head(1).replace(b": 1\r", b": -1\r"), 400),
    "two lengths": (head(5, "Content-Length: 6\r\n") + b"hello", 400),
    "a body longer than declared": (head(5) + b"hello and then some\r\n\r\n", 400),
    "broken chunks": (head(None) + b"zz\r\nhello\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n", 400),
    "no Host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "no Host, as it may be in 1.0": (b"GET /health HTTP/1.0\r\n\r\n", 421),
    "a head without end": (b"GET /health HTTP/1.1\r\nX: " + b"x" * 20_000, 400),
}


@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_a_client_that_misbehaves_gets_an_answer_and_others_theirs(
    serve: Serve, waiting: Waiting, shoe: bytes, what: str
) -> None:
    data, status = BAD_REQUESTS[what]
    waiting.go.set()
    with serve({"clothes": waiting}, timeout=0.3) as running:
        assert status_of(send(running, data)) == status
        until(lambda: busy(running) == 0)
        assert running.client.get("/health").status_code == 200


def test_who_sends_in_drops_does_not_keep_a_place(serve: Serve, waiting: Waiting, monkeypatch) -> None:
    monkeypatch.setattr(body, "_PATIENCE", 0.3)
    waiting.go.set()
    with serve({"clothes": waiting}, timeout=PATIENCE, max_queue=1) as running:
        connection = send(running, head(100_000))
        began = time.monotonic()
        with suppress(OSError):  # it is answered before all has come
            while not select.select([connection], [], [], 0.02)[0]:
                connection.sendall(b"x")
        assert status_of(connection) == 408 and time.monotonic() - began < PATIENCE / 2
        until(lambda: busy(running) == 0)


def test_clients_that_hang_lose_their_connections(serve: Serve) -> None:
    large = png_of(np.random.default_rng(0).integers(0, 256, (700, 1000, 3), np.uint8))
    ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    picture = head(len(large)).replace(b"/predict", b"/predict?picture=true") + large
    hanging = {
        "says nothing": b"",
        "half a head": ask,
        "half the next head": ask + b"\r\n" + ask,
        "does not read": picture * 4,  # more than the system keeps for it
        "sends on": head(10**9) + b"x" * 1000,
    }
    with (
        serve({"clothes": Predictor(classifier(), device="cpu")}, look_around=0.5) as running,
        ExitStack() as open_ones,
    ):
        connections = running.server.server_state.connections
        for data in hanging.values():
            connection = open_ones.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(PATIENCE)
            connection.connect(("127.0.0.1", running.port))
            connection.sendall(data)
        until(lambda: len(connections) == len(hanging))
        until(lambda: len(connections) == 0)


def test_what_is_under_way_is_answered_before_the_end(
    serve: Serve, waiting: Waiting, pool: ThreadPoolExecutor, shoe: bytes
) -> None:
    with serve({"clothes": waiting}) as running:
        answer = pool.submit(running.post, shoe)
        assert waiting.called.wait(PATIENCE)
        running.server.should_exit = True
        threading.Timer(0.3, waiting.go.set).start()
        assert answer.result().status_code == 200


def test_a_port_in_use_is_one_line() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1 port {port} .*in use.*--port"):
            listen("127.0.0.1", port)
    with pytest.raises(ListenError, match="no.host.invalid"):
        listen("no.host.invalid", 0)
