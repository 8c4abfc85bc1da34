"""The Triton kernel where no GPU is: interpreted, compiled without running, and left alone where it cannot be used."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tools.compile_triton import ONE_BLOCK, SEVERAL_BLOCKS, Case, compiled

from swin_transformer_pytorch.ops import (
    choose_implementation,
    describe_kernels,
    force_implementation,
    window_attention,
)
from swin_transformer_pytorch.ops.triton import kernel

CASES = Path(__file__).with_name("triton_kernel_cases.py")
SHARED_MEMORY = 99 * 1024  # bytes that a program may have on consumer GPUs; data centres' have more

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: it exists for Linux only"
)


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**{k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}, **environment}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=600, check=False
    )


def run_cases(marker: str, **environment: str) -> None:
    # A process of its own: Triton decides at its import whether it interprets.
    options = ("-q", "-p", "no:cacheprovider", "-m", marker)
    done = run_python("-m", "pytest", str(CASES), *options, **environment)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("marker", ["not slow", "slow"])
def test_cases_in_the_interpreter(marker: str) -> None:
    run_cases(marker, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
def test_derivatives_in_the_interpreter() -> None:
    done = run_python(
        "-m",
        "pytest",
        str(CASES.with_name("test_derivatives.py")),
        *("-q", "-p", "no:cacheprovider", "-k", "test_attention and triton"),
        TRITON_INTERPRET="1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 passed" in done.stdout


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cases_on_the_gpu() -> None:
    run_cases("")


def check_compiled(name: str, capability: int, dtype: torch.dtype, window: tuple[int, int], *, v2: bool) -> None:
    usage = compiled(Case(name=name, capability=capability, dtype=dtype, window=window, v2=v2))
    assert usage.shared <= SHARED_MEMORY
    assert usage.spilt <= 1024  # tiles chosen badly spill many thousand
    assert 32 <= usage.registers <= 255 and usage.programs(capability) >= 1
    assert usage.wide > 0.2, "rows of maps are read by 16 bytes a thread"


compiles = pytest.mark.skipif(kernel.INTERPRETED, reason="the kernels are interpreted")


@needs_triton
@compiles
def test_compiles_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    check_compiled("forward", 80, torch.bfloat16, (7, 7), v2=False)


WINDOWS = dict.fromkeys(ONE_BLOCK, (7, 7))
LARGE_WINDOWS = dict.fromkeys(SEVERAL_BLOCKS, (16, 16))


@needs_triton
@compiles
@pytest.mark.slow
@pytest.mark.parametrize(("name", "window"), [*WINDOWS.items(), *LARGE_WINDOWS.items()])
@pytest.mark.parametrize(("capability", "dtype"), [(80, torch.float16), (90, torch.float32), (100, torch.float16)])
def test_every_kernel_fits_registers_and_shared_memory(
    name: str,
    window: tuple[int, int],
    dtype: torch.dtype,
    capability: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    check_compiled(name, capability, dtype, window, v2=True)


WITHOUT = """
import logging, sys
logging.basicConfig(format="%(message)s")
sys.modules["triton"] = None
import torch
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1
torch.cuda.get_device_capability = lambda index: (9, 0)
from swin_transformer_pytorch.ops import available_implementations, choose_implementation, describe_kernels
for _ in range(2):
    assert choose_implementation("cuda", training=True) == "sdpa"
assert "triton" not in available_implementations()
print(describe_kernels()["triton"])
"""


def test_without_triton_the_package_works_and_says_so_once() -> None:
    done = run_python("-c", WITHOUT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("none: triton is not installed")
    assert done.stderr.count("triton is not installed") == 1


def test_a_gpu_that_triton_cannot_use_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease install one")

    monkeypatch.setattr(kernel, "_forward", fail)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.empty(0))
    assert kernel._trial() == "triton fails here: RuntimeError: Failed to find C compiler."


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_reason_is_told(caplog: pytest.LogCaptureFixture) -> None:
    kernel._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert {choose_implementation("cuda", training=training) for training in (False, True)} == {"sdpa"}
    assert len(caplog.records) == 1
    reason = describe_kernels()["triton"].removeprefix("none: ")
    assert reason in caplog.text
    with force_implementation("triton"), pytest.raises(ValueError, match=re.escape(reason)):
        window_attention(torch.zeros(1, 2, 2, 24), torch.zeros(1, 4, 4), window_size=(2, 2), shift_size=(0, 0))


def test_the_choice_is_a_constant_of_a_compiled_graph() -> None:
    def chosen(x: torch.Tensor) -> torch.Tensor:
        return x + len(choose_implementation("cuda", training=False, dtype=x.dtype))

    compiled = torch.compile(chosen, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(torch.zeros(1)), chosen(torch.zeros(1)))
