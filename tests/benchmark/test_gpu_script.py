"""benchmarks/gpu.py where no GPU is: its parts run on a CPU, on little, and it says what it lacks."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("gpu")
    sys.modules.pop("gpu")


def test_attention_is_measured_way_by_way(gpu: Any) -> None:
    case = dataclasses.replace(gpu.ATTENTIONS[0], map_size=(9, 8), heads=1)
    figures = gpu.measure_attention(case, 1, torch.float32, CPU, 2, ["sdpa", "reference", "triton"])
    assert [figure.mode for figure in figures].count("forward and backward") == 3
    for figure in figures:
        if figure.way == "triton" and not torch.cuda.is_available():
            assert figure.failure is not None and "no CUDA device" in figure.failure
        else:
            assert figure.seconds > 0 and figure.ratio > 0
    table = gpu.markdown(figures, {"GPU": "none"})
    assert len(table.splitlines()) == 4 + len(figures)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("v2", [False, True])
def test_flex_attention_computes_the_same(gpu: Any, v2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    case = dataclasses.replace(gpu.ATTENTIONS[0], map_size=(9, 8), heads=2, v2=v2)
    tensors = {"qkv": torch.randn(1, 9, 8, 192), "bias": torch.randn(2, 49, 49), "pad_token": torch.randn(192)}
    if v2:
        tensors["logit_scale"] = torch.rand(2) * 10
    torch.testing.assert_close(gpu._flex(case, CPU)(**tensors), gpu._ours(case, "reference")(**tensors))


@pytest.mark.slow
def test_models_are_measured_way_by_way(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)
    figures = gpu.measure_model("swin_tiny_patch4_window7_224", 224, 1, torch.float32, CPU, 1)
    assert {figure.mode for figure in figures} == {"inference", "training step"}
    assert all(figure.failure is None and figure.seconds > 0 for figure in figures)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run([sys.executable, str(SCRIPTS / "gpu.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("benchmarks/gpu.py measures on a CUDA device")
    assert "Traceback" not in done.stderr
