"""Which products of the CPU are taken on which processor, and how `swin doctor` says it."""

import pytest
import torch

from swin_transformer_pytorch.ops import describe_kernels
from swin_transformer_pytorch.ops.cpu import build, choice, library

AVX2_AND_ZEN = [
    ("AVX2", "GenuineIntel", 6, True, False),
    ("AVX2", "AuthenticAMD", 23, True, False),
    ("AVX2", "", -1, True, False),
    ("AVX512", "AuthenticAMD", 25, True, False),
    ("AVX512", "AuthenticAMD", 26, True, True),
    ("AVX512", "AuthenticAMD", 27, False, False),
    ("AVX512", "GenuineIntel", 6, False, False),
    ("DEFAULT", "AuthenticAMD", 26, False, False),
    ("SVE256", "", -1, False, False),
]


@pytest.fixture(autouse=True)
def kernels_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWIN_PRODUCTS", raising=False)
    monkeypatch.setattr(library, "why_not", lambda: None)
    monkeypatch.setattr(library, "multiplies_bfloat16", lambda: True)
    choice._why_not.cache_clear()
    yield
    choice._why_not.cache_clear()


def runs_on(monkeypatch: pytest.MonkeyPatch, vectors: str, maker: str, family: int) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(choice, "_maker_and_family", lambda: (maker, family))


@pytest.mark.parametrize(("vectors", "maker", "family", "float32", "bfloat16"), AVX2_AND_ZEN)
def test_only_where_they_were_measured(
    monkeypatch: pytest.MonkeyPatch, vectors: str, maker: str, family: int, float32: bool, bfloat16: bool
) -> None:
    runs_on(monkeypatch, vectors, maker, family)
    for dtype, taken in ((torch.float32, float32), (torch.bfloat16, bfloat16), (torch.float16, False)):
        assert (choice.why_not(dtype) is None) == taken, dtype
    if not float32:
        assert f"family {family}, with {vectors}" in str(choice.why_not())


def test_not_without_kernels_nor_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    runs_on(monkeypatch, "AVX512", "AuthenticAMD", 26)
    monkeypatch.setattr(library, "multiplies_bfloat16", lambda: False)
    assert choice.why_not() is None
    assert "without instructions" in str(choice.why_not(torch.bfloat16))
    choice._why_not.cache_clear()
    monkeypatch.setattr(library, "why_not", lambda: "no compiler")
    assert str(choice.why_not()).endswith("no compiler")
    monkeypatch.setenv("SWIN_PRODUCTS", "own")
    assert str(choice.why_not()).endswith("no compiler")


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    runs_on(monkeypatch, "AVX512", "GenuineIntel", 6)
    monkeypatch.setenv("SWIN_PRODUCTS", "own")
    assert choice.why_not() is choice.why_not(torch.bfloat16) is None
    assert choice.describe() == "ready, for float32 and bfloat16"
    monkeypatch.setenv("SWIN_PRODUCTS", "torch")
    assert "SWIN_PRODUCTS says so" in str(choice.why_not())
    monkeypatch.setenv("SWIN_PRODUCTS", "mkl")
    with pytest.raises(ValueError, match="SWIN_PRODUCTS='mkl'"):
        choice.why_not()


def test_doctor_says_which_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find", lambda **_: build.cache_folder() / "kernels.so")
    runs_on(monkeypatch, "AVX2", "GenuineIntel", 6)
    assert describe_kernels()["cpu products"].startswith("ready, for float32; bfloat16: PyTorch's products are taken")
    runs_on(monkeypatch, "AVX512", "GenuineIntel", 6)
    assert "not measured on GenuineIntel, family 6, with AVX512" in describe_kernels()["cpu products"]

    def fails(**_: bool) -> None:
        raise build.KernelBuildError("no compiler")

    monkeypatch.setattr(library, "find", fails)
    assert describe_kernels()["cpu products"] == describe_kernels()["cpu"] == "none: no compiler"
