"""Kernels that come with the installation: for which processor, when they are taken, and what a wheel may hold."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tools import make_wheels

from swin_transformer_pytorch.ops import describe_kernels
from swin_transformer_pytorch.ops.cpu import build, library, prebuilt


def processor(monkeypatch: pytest.MonkeyPatch, machine: str, capability: str, system: str = "Linux") -> None:
    monkeypatch.setattr(prebuilt.platform, "machine", lambda: machine)
    monkeypatch.setattr(prebuilt.platform, "system", lambda: system)
    vectors, _, dot_products = capability.partition("_")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(dot_products))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a library of each kind, which holds its kind's name."""
    monkeypatch.delenv("SWIN_KERNELS", raising=False)
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path)
    for kind in prebuilt.KINDS:
        made = tmp_path / prebuilt.library_name(kind)
        made.write_text(kind)
        build.write_digest(made)
    return tmp_path


@pytest.mark.parametrize(
    ("machine", "capability", "system", "kind"),
    [
        ("x86_64", "AVX512", "Linux", "x86_64-AVX512"),
        ("x86_64", "AVX512_BF16", "Linux", "x86_64-AVX512_BF16"),
        ("x86_64", "AVX2", "Linux", "x86_64-AVX2"),
        ("x86_64", "DEFAULT", "Linux", None),
        ("x86_64", "AVX2", "Darwin", None),
        ("AMD64", "AVX2", "Windows", None),
        ("aarch64", "DEFAULT", "Linux", "aarch64"),
        ("aarch64", "SVE256", "Linux", "aarch64"),
        ("arm64", "DEFAULT", "Darwin", None),
        ("ppc64le", "VSX", "Linux", None),
    ],
)
def test_each_processor_gets_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, machine: str, capability: str, system: str, kind: str | None
) -> None:
    processor(monkeypatch, machine, capability, system)
    found = prebuilt.find()
    assert (found and found.read_text()) == kind


def test_other_sources_have_other_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "x86_64", "AVX2")
    monkeypatch.setattr(build, "_sources", lambda: {"linear.cpp": "other"})
    assert prebuilt.find() is None


def test_a_build_may_be_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "x86_64", "AVX2")
    monkeypatch.setenv("SWIN_KERNELS", "build")
    monkeypatch.setattr(build, "build", lambda again: Path("built") / str(again))
    assert library.find(again=True) == Path("built/True")


@pytest.mark.parametrize("damage", ["cut", "without its digest"])
def test_a_damaged_one_is_said_and_not_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    processor(monkeypatch, "aarch64", "DEFAULT")
    made = folder / prebuilt.library_name("aarch64")
    if damage == "cut":
        made.write_text("aar")
    else:
        made.with_suffix(".sha256").unlink()
    assert prebuilt.find() is None
    assert "is damaged: install swin-transformer-pytorch anew" in caplog.text


def test_doctor_says_where_kernels_are_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "x86_64", "AVX2")
    assert f"built ahead, {folder}" in describe_kernels(build=True)["cpu"]
    shutil.rmtree(folder)
    monkeypatch.setattr(build, "build", lambda again: Path("/cache/kernels.so"))
    assert "built here, /cache/kernels.so" in describe_kernels()["cpu"]


def test_without_threads_to_share_the_reason_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(path: str) -> object:
        return object()

    library._team.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(library.ctypes, "CDLL", no_library)
            assert describe_kernels()["cpu"].startswith("none: this torch has no threads of OpenMP")
    finally:
        library._team.cache_clear()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0libm.so.6\0libc.so.6\0GLIBC_2.2.5\0GLIBC_2.17\0", None),
        (b"\0libm.so.6\0GLIBC_2.2.5\0GLIBC_2.34\0", "newer than"),
        (b"\0libstdc++.so.6\0libc.so.6\0GLIBC_2.2.5\0", r"needs .*libstdc\+\+"),
        (b"\0libgomp.so.1\0libc.so.6\0GLIBC_2.2.5\0", "needs .*libgomp"),
        (b"", "newer than"),
    ],
)
def test_a_wheel_takes_no_library_that_needs_more_than_an_old_glibc(
    tmp_path: Path, content: bytes, said: str | None
) -> None:
    made = tmp_path / "kernels.so"
    made.write_bytes(content)
    if said is None:
        make_wheels.check_needs(made)
    else:
        with pytest.raises(ValueError, match=said):
            make_wheels.check_needs(made)


@pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed; make wheel installs it")
@pytest.mark.slow
@pytest.mark.parametrize("kind", prebuilt.KINDS)
def test_zig_builds_each_kind(kind: str, tmp_path: Path) -> None:
    assert build.is_whole(make_wheels.compile_kernels(kind, tmp_path))
