"""`swin web`: from the command line to an answer and an end; mistakes."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.saving import save_model
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

PATIENCE = 60


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(checkpoint: Path, pictures: Path, number: signal.Signals) -> None:
    words = [sys.executable, "-m", "swin_transformer_pytorch", "web", f"clothes={checkpoint}", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-c", HEEDING, *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as server:
        try:
            line = server.stderr.readline()
            address = re.match(r"(http://127\.0\.0\.1:\d+) has clothes; ", line)[1]
            content = (pictures / "a.png").read_bytes()
            answer = httpx.post(f"{address}/predict", content=content, timeout=PATIENCE, trust_env=False)
            assert answer.json()["model"] == "clothes"
            hanging = send_half(address) if number == signal.SIGTERM else None
            server.send_signal(number)
            if hanging is not None:  # it is told, and not waited for
                with hanging:
                    assert hanging.recv(100)[9:12] in (b"503", b"408")
            rest = server.stderr.read()
        finally:
            server.kill()
    assert "Traceback" not in rest
    assert server.returncode == (130 if number == signal.SIGINT else -signal.SIGTERM)


# Where the tests run in the background of a shell, SIGINT is ignored, and children inherit that.
HEEDING = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def send_half(address: str) -> socket.socket:
    """A request that the server has begun to read."""
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    connection.sendall(f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\nx".encode())
    while not any(httpx.get(f"{address}/health", trust_env=False).json()["busy"].values()):
        pass
    return connection


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no_such_model"], "no_such_model"),
        (["fashion", "fashion"], "NAME="),
        (["--port", "70000"], "--port"),
        (["--port", "in use"], "in use"),
        (["--host", "no.host.invalid"], "--host"),
        (["--max-queue", "0"], "--max-queue"),
        (["--device", "abacus"], "--device abacus"),
    ],
)
def test_a_mistake_is_one_line(swin, words: list[str], message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        given = [port if word == "in use" else word for word in words]
        outcome = swin("web", *([] if "--port" in words else ["--port", "0"]), *given)
    assert outcome.code == 2 and message in outcome.err and outcome.err.count("\n") == 1


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_package_is_named(swin, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    outcome = swin("web")
    assert outcome.code == 2 and "swin-transformer-pytorch[web]" in outcome.err and outcome.err.count("\n") == 1


def test_a_model_of_any_channels_is_ready(tmp_path: Path) -> None:
    from swin_transformer_pytorch.commands.web import _predictor

    config = SwinConfig(in_channels=4, embed_dim=8, depths=(1,), num_heads=(1,), window_size=4)
    preprocessing = Preprocessing(image_size=16, resize_size=16, mean=(0.5,) * 4, std=(0.2,) * 4)
    save_model(SwinClassifier(config, num_classes=2, preprocessing=preprocessing), tmp_path / "four.safetensors")
    options = argparse.Namespace(max_pixels=None, batch_size=None)
    predictor = _predictor(str(tmp_path / "four.safetensors"), "cpu", options)
    (tmp_path / "image.npy").write_bytes(npy_of(np.zeros((20, 30, 4), np.uint8)))
    assert len(predictor((tmp_path / "image.npy").read_bytes()).labels) == 2


def npy_of(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def test_names_of_models(checkpoint: Path) -> None:
    from swin_transformer_pytorch.commands.web import _by_name

    words = [str(checkpoint), f"mine={checkpoint}", "fashion", "swin_tiny_patch4_window7_224.in1k"]
    assert list(_by_name(words)) == [checkpoint.stem, "mine", "fashion", "swin_tiny_patch4_window7_224.in1k"]
