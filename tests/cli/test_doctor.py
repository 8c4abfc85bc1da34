"""`swin doctor`: what it reports is what is there, and each missing part comes with its command."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import torch

from swin_transformer_pytorch import doctor
from swin_transformer_pytorch.ops import available_implementations, choose_implementation


def test_reports_versions_kernels_and_caches(swin) -> None:
    outcome = swin("doctor", "--json")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert found["packages"]["torch"] == torch.__version__
    assert found["system"]["python"].startswith(platform.python_version())
    for name, training in (("inference on cpu", False), ("training on cpu", True)):
        chosen = choose_implementation("cpu", training=training)
        assert [key for key, uses in found["attention"].items() if name in uses] == [chosen]
    assert set(found["attention"]) == set(available_implementations())
    assert all(size >= 0 for size in found["caches"].values())


def test_a_missing_extra_comes_with_its_command(swin, monkeypatch) -> None:
    real = doctor._importable
    monkeypatch.setattr(doctor, "_importable", lambda module: module != "matplotlib" and real(module))
    line = next(line for line in swin("doctor").out.splitlines() if line.strip().startswith("matplotlib"))
    assert "missing" in line
    assert "pip install 'swin-transformer-pytorch[train]'" in line


def test_how_threads_wait(swin, monkeypatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert "unless GOMP_SPINCOUNT=5000" in json.loads(swin("doctor", "--json").out)["system"]["waiting"]
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert json.loads(swin("doctor", "--json").out)["system"]["waiting"] == "as OMP_WAIT_POLICY=PASSIVE says"


def test_commands_have_threads_wait_briefly() -> None:
    code = (
        "import os, sys, swin_transformer_pytorch.cli as cli\n"
        "cli.main(['--version'])\n"
        "print('set to', os.environ.get('GOMP_SPINCOUNT'))\n"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    for given, expected in (({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=bare | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.split("set to ")[1].strip() == expected


def test_tables_and_json_tell_the_same(swin) -> None:
    found = json.loads(swin("doctor", "--json").out)
    out = swin("doctor").out
    for section in ("system", "packages", "extras", "attention", "kernels", "caches"):
        assert section in out
        assert all(name in out for name in found[section])


def test_caches_follow_their_settings(tmp_path, monkeypatch, swin) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "a.pth").write_bytes(b"x" * 1000)
    assert json.loads(swin("doctor", "--json").out)["caches"][str(tmp_path / "checkpoints")] == 1000


def test_builds_the_kernel_anew(tmp_path, monkeypatch, swin) -> None:
    from swin_transformer_pytorch.ops.cpu import build

    def compile_nothing(command, to) -> None:
        to.write_bytes(b"built")

    monkeypatch.setenv("SWIN_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "compile_library", compile_nothing)
    monkeypatch.setattr(build, "find_compiler", lambda: "c++")
    monkeypatch.setattr(build, "_key", lambda: "key")
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "key.failed").write_text("an earlier reason")
    assert "an earlier reason" in json.loads(swin("doctor", "--json").out)["kernels"]["cpu"]
    outcome = swin("doctor", "--build")
    assert outcome.code == 0
    assert str(tmp_path / "kernels" / "key.so") in outcome.out
    assert (tmp_path / "kernels" / "key.so").read_bytes() == b"built"
