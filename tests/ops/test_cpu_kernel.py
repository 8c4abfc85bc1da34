"""The CPU kernel against the reference: answers and every gradient, over random shapes; bits, tracing and building."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swin_transformer_pytorch.ops import choose_implementation, describe_kernels, force_implementation, window_attention
from swin_transformer_pytorch.ops.cpu import build as building
from swin_transformer_pytorch.ops.cpu import library

Arguments = dict[str, Tensor]

needs_kernel = pytest.mark.skipif(library.why_not() is not None, reason=f"no CPU kernel here: {library.why_not()}")


@st.composite
def cases(draw: st.DrawFn) -> tuple[Arguments, dict[str, tuple[int, int]]]:
    """Tensors in float64, and window and shift."""
    window = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    shift = (draw(st.integers(0, window[0] - 1)), draw(st.integers(0, window[1] - 1)))
    heads, head_dim = draw(st.integers(1, 3)), draw(st.sampled_from([8, 16, 24, 32, 40, 64]))
    size = (draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = {"qkv": normal(*size, 3 * heads * head_dim), "bias": normal(heads, *[window[0] * window[1]] * 2)}
    if draw(st.booleans()):
        tensors["qkv"] = tensors["qkv"].transpose(1, 2).contiguous().transpose(1, 2)
    if draw(st.booleans()):
        tensors["pad_token"] = normal(3 * heads * head_dim)
    if draw(st.booleans()):
        tensors["logit_scale"] = normal(heads).exp() * 5
    return tensors, {"window_size": window, "shift_size": shift}


def answers(
    implementation: str, tensors: Arguments, geometry: dict[str, tuple[int, int]], dtype: torch.dtype
) -> tuple[Tensor, dict[str, Tensor]]:
    """The op's result, and the gradient of each tensor for one and the same gradient of the result."""
    leaves = {
        name: tensor.to(dtype if name in ("qkv", "pad_token") else torch.promote_types(dtype, torch.float32))
        .detach()
        .requires_grad_()
        for name, tensor in tensors.items()
    }
    with force_implementation(implementation):
        out = window_attention(**leaves, **geometry)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(out.dtype)
    grads = torch.autograd.grad(out, list(leaves.values()), upstream, allow_unused=True)
    zero_if_unused = [torch.zeros_like(t) if g is None else g for t, g in zip(leaves.values(), grads, strict=True)]
    return out.detach(), dict(zip(leaves, zero_if_unused, strict=True))


@needs_kernel
@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_answer_and_every_gradient_equal_the_reference_in_float64(
    case: tuple[Arguments, dict[str, tuple[int, int]]],
) -> None:
    tensors, geometry = case
    expected, expected_grads = answers("reference", tensors, geometry, torch.float64)
    got, got_grads = answers("cpu", tensors, geometry, torch.float32)
    # Scores are as large as the scale, and so is their rounding in float32.
    rounding = max(1.0, float(tensors["logit_scale"].max()) / 50) if "logit_scale" in tensors else 1.0
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5 * rounding)
    for name, grad in expected_grads.items():
        size = grad.abs().max().item() + 1
        torch.testing.assert_close(
            got_grads[name].double() / size,
            grad / size,
            rtol=0,
            atol=2e-5 * rounding,
            msg=lambda text, n=name: f"{n}: {text}",
        )


@needs_kernel
@settings(max_examples=15, deadline=None)
@given(case=cases())
def test_bfloat16_is_the_reference_rounded(case: tuple[Arguments, dict[str, tuple[int, int]]]) -> None:
    tensors, geometry = case
    expected, expected_grads = answers("reference", tensors, geometry, torch.bfloat16)
    got, got_grads = answers("cpu", tensors, geometry, torch.bfloat16)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected.float(), rtol=2**-7, atol=1e-2)
    for name, grad in expected_grads.items():
        size = grad.float().abs().max().item() + 1
        assert ((got_grads[name].float() - grad.float()).abs().max() / size).item() < 2e-2, name


@needs_kernel
@pytest.mark.parametrize("window", [(24, 24), (16, 16), (5, 24)])
def test_large_windows(window: tuple[int, int]) -> None:
    torch.manual_seed(0)
    tokens = window[0] * window[1]
    tensors = {"qkv": torch.randn(1, 30, 50, 48).double(), "bias": torch.randn(2, tokens, tokens).double()}
    geometry = {"window_size": window, "shift_size": (window[0] // 2, window[1] // 2)}
    expected, expected_grads = answers("reference", tensors, geometry, torch.float64)
    got, got_grads = answers("cpu", tensors, geometry, torch.float32)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)
    for name, grad in expected_grads.items():
        torch.testing.assert_close(got_grads[name].double(), grad, rtol=1e-4, atol=1e-4)


@needs_kernel
def test_scores_beyond_float_range_of_exp_stay_exact() -> None:
    """V2's scores reach 116, and -100 is added: the weights of masked keys are tiny but right."""
    torch.manual_seed(0)
    tensors = {"qkv": torch.randn(1, 6, 6, 48).double() * 30, "bias": 16 * torch.rand(2, 16, 16).double()}
    tensors["logit_scale"] = torch.full((2,), 100.0, dtype=torch.float64)
    geometry = {"window_size": (4, 4), "shift_size": (2, 2)}
    expected, _ = answers("reference", tensors, geometry, torch.float64)
    got, grads = answers("cpu", tensors, geometry, torch.float32)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-3)
    assert all(grad.isfinite().all() for grad in grads.values())


@needs_kernel
def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    tensors = {"qkv": torch.randn(3, 17, 19, 96), "bias": torch.randn(2, 49, 49), "pad_token": torch.randn(96)}
    geometry = {"window_size": (7, 7), "shift_size": (3, 3)}
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            out, grads = answers("cpu", tensors, geometry, torch.float32)
            found.append([out, *grads.values()])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@needs_kernel
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("v2", [False, True])
def test_is_a_well_behaved_operator(v2: bool) -> None:
    qkv, bias = torch.randn(2, 5, 8, 48, requires_grad=True), torch.randn(2, 12, 12, requires_grad=True)
    scale = torch.rand(2, requires_grad=True) if v2 else None
    pad = torch.randn(48, requires_grad=True)
    arguments = (qkv, bias, (3, 4), (1, 2), pad, scale, True)
    torch.library.opcheck(torch.ops.swin_transformer_pytorch.window_attention.default, arguments)


@needs_kernel
def test_an_empty_batch_gives_an_empty_map() -> None:
    with force_implementation("cpu"):
        out = window_attention(torch.randn(0, 7, 7, 24), torch.randn(1, 49, 49), window_size=(7, 7), shift_size=(0, 0))
    assert out.shape == (0, 7, 7, 8)


@needs_kernel
def test_an_empty_batch_has_gradients_of_zero() -> None:
    bias = torch.zeros(2, 9, 9, requires_grad=True)
    pad_token = torch.zeros(48, requires_grad=True)
    qkv = torch.empty(0, 5, 5, 48, requires_grad=True)
    with force_implementation("cpu"):
        out = window_attention(qkv, bias, window_size=(3, 3), shift_size=(1, 1), pad_token=pad_token)
    out.sum().backward()
    assert bias.grad is not None and not bias.grad.any()
    assert pad_token.grad is not None and not pad_token.grad.any()


@needs_kernel
def test_is_chosen_for_what_it_takes() -> None:
    for training in (False, True):
        assert choose_implementation("cpu", training=training) == "cpu"
        assert choose_implementation("cpu", training=training, dtype=torch.bfloat16) == "cpu"
        assert choose_implementation("cpu", training=training, dtype=torch.float64) in ("sdpa", "matmul")
        assert choose_implementation("cpu", training=training, dtype=torch.float16) in ("sdpa", "matmul")
        assert choose_implementation("cpu", training=training, head_dim=12) in ("sdpa", "matmul")
    assert choose_implementation("cuda", training=False) == "sdpa"


@needs_kernel
def test_forced_on_what_it_does_not_take_says_so() -> None:
    with force_implementation("cpu"), pytest.raises(ValueError, match="multiple of 8"):
        window_attention(torch.randn(1, 4, 4, 12), torch.randn(1, 16, 16), window_size=(4, 4), shift_size=(0, 0))


@pytest.mark.parametrize(
    ("dtype", "head_dim", "said"),
    [(torch.float16, 32, "not float16"), (torch.float64, 32, "not float64"), (torch.float32, 12, "multiple of 8")],
)
def test_what_it_does_not_take_is_said_once(
    dtype: torch.dtype, head_dim: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    library.say_once.cache_clear()
    for _ in range(2):
        qkv, bias = torch.ones(1, 4, 4, 3 * head_dim, dtype=dtype), torch.zeros(1, 16, 16, dtype=dtype)
        window_attention(qkv, bias, window_size=(4, 4), shift_size=(0, 0))
    assert caplog.text.count(said) == 1
    assert "slower" in caplog.text


def test_a_slower_path_does_not_break_a_traced_graph(caplog: pytest.LogCaptureFixture) -> None:
    library.say_once.cache_clear()

    def takes_it(x: Tensor) -> Tensor:
        return x + int(choose_implementation("cpu", training=False, head_dim=12) == "cpu")

    with caplog.at_level("WARNING"):
        assert torch.compile(takes_it, fullgraph=True, backend="eager")(torch.zeros(())) == 0
    assert caplog.text.count("multiple of 8") == 1


@needs_kernel
def test_doctor_says_what_it_is_for() -> None:
    assert describe_kernels()["cpu"].startswith(
        "ready, for float32 and bfloat16 and heads of a multiple of 8 channels: "
    )


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )


USE = """
import logging, torch
logging.basicConfig(format="%(message)s")
from swin_transformer_pytorch.ops import window_attention, choose_implementation
qkv, bias = torch.ones(1, 4, 4, 24), torch.zeros(1, 16, 16)
for _ in range(2):
    out = window_attention(qkv, bias, window_size=(4, 4), shift_size=(0, 0))
assert torch.equal(out, torch.ones(1, 4, 4, 8))
print(choose_implementation("cpu", training=False))
"""


def write_compiler(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_importing_builds_nothing(tmp_path: Path) -> None:
    done = run_python("import swin_transformer_pytorch.ops, torch", SWIN_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_one_line_tells_why_and_the_plain_path_is_taken(tmp_path: Path) -> None:
    done = run_python(USE, SWIN_CACHE=str(tmp_path), CXX="no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "sdpa"
    assert done.stderr.count("no C++ compiler was found (no-such-compiler)") == 1
    assert "swin doctor --build" in done.stderr


def test_a_failing_compiler_is_named_and_not_tried_again_and_again(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    compiler = write_compiler(
        tmp_path / "cc",
        f'[ "$1" = --version ] && exit 0; echo x >> {calls}; echo "fatal error: no vectors" >&2; exit 1',
    )
    for _ in range(2):
        done = run_python(USE, SWIN_CACHE=str(tmp_path / "cache"), CXX=compiler)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "sdpa"
        assert "no vectors" in done.stderr
    assert calls.read_text().count("x") == 1


@pytest.mark.parametrize(
    "script",
    [
        'echo "fatal error: error writing to /tmp/x.s: No space left on device" >&2; exit 1',
        'echo "c++: fatal error: Killed signal terminated program cc1plus" >&2; exit 1',
        "kill -9 $$",
    ],
    ids=["full disk", "out of memory", "killed"],
)
def test_a_failure_that_may_pass_is_tried_again_the_next_day(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, full = tmp_path / "calls", tmp_path / "full"
    full.touch()
    works = 'while [ "$1" != -o ]; do shift; done; echo made > "$2"'
    script = f'[ "$1" = --version ] && exit 0; echo x >> {calls}; if [ -e {full} ]; then {script}; fi; {works}'
    monkeypatch.setenv("SWIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", write_compiler(tmp_path / "cc", script))
    building._key.cache_clear()
    try:
        for said in ("cc failed", "tried again after that"):
            with pytest.raises(building.KernelBuildError, match=said):
                building.build()
        full.unlink()
        with pytest.raises(building.KernelBuildError, match="within the last day"):
            building.build()
        assert calls.read_text().count("x") == 1
        (failure,) = (tmp_path / "cache" / "kernels").glob("*.failed")
        yesterday = time.time() - 25 * 3600
        os.utime(failure, (yesterday, yesterday))
        assert building.build().read_text() == "made\n"
        assert not failure.exists()
    finally:
        building._key.cache_clear()


def test_a_full_cache_is_said_and_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_CACHE", str(tmp_path))
    compiler = write_compiler(tmp_path / "cc", 'while [ "$1" != -o ]; do shift || exit 0; done; echo made > "$2"')
    monkeypatch.setenv("CXX", compiler)
    building._key.cache_clear()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    try:
        with monkeypatch.context() as patch:
            patch.setattr(building, "compile_library", full)
            with pytest.raises(building.KernelBuildError, match="cannot be used: No space left on device"):
                building.build()
        assert building.build().read_text() == "made\n"
    finally:
        building._key.cache_clear()


@needs_kernel
@pytest.mark.slow
def test_a_damaged_library_is_built_again_and_never_loaded(tmp_path: Path) -> None:
    """A cut library would end the process with SIGBUS; each case here is a process of its own."""
    whole, calls = library.find(), tmp_path / "calls"
    # Builds in no time: what the compiler would make is there already.
    compiler = write_compiler(
        tmp_path / "cc",
        f'[ "$1" = --version ] && exit 0; echo x >> {calls}; while [ "$1" != -o ]; do shift; done; cp {whole} "$2"',
    )
    environment = {"SWIN_CACHE": str(tmp_path / "cache"), "CXX": compiler}
    assert run_python(USE, **environment).stdout.strip() == "cpu"
    (built,) = (tmp_path / "cache").rglob("*.so")
    content = whole.read_bytes()
    damaged = {f"cut at {n}/8": content[: len(content) * n // 8] for n in (0, 3, 7)}
    for place in (0, len(content) // 2, len(content) - 1):
        damaged[f"flipped at {place}"] = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
    damaged["longer"] = content + b"x"
    for number, (what, bad) in enumerate(damaged.items()):
        built.unlink()
        built.write_bytes(bad)
        done = run_python(USE, **environment)
        assert (done.returncode, done.stdout.strip()) == (0, "cpu"), f"{what}: {done.stderr}"
        assert calls.read_text().count("x") == number + 2, what
        assert built.read_bytes() == content
    digest = built.with_suffix(".sha256")
    digest.write_bytes(b"\xff" * 40)
    assert run_python(USE, **environment).stdout.strip() == "cpu"
    digest.unlink()
    assert run_python(USE, **environment).stdout.strip() == "cpu"
    assert calls.read_text().count("x") == len(damaged) + 3


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = run_python(USE, SWIN_CACHE=str(blocked))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "sdpa"
    assert "cannot be used" in done.stderr


@needs_kernel
@pytest.mark.slow
def test_processes_that_start_together_build_once_and_a_killed_builder_leaves_no_trace(tmp_path: Path) -> None:
    real, calls, cache = building.find_compiler(), tmp_path / "calls", tmp_path / "cache"
    pause = tmp_path / "pause"
    pause.touch()
    compiler = write_compiler(
        tmp_path / "cc",
        f'[ "$1" = --version ] && exec {real} --version; echo x >> {calls}; [ -e {pause} ] && sleep 60; '
        f'exec {real} "$@"',
    )
    environment = {**os.environ, "SWIN_CACHE": str(cache), "CXX": compiler}
    first = subprocess.Popen([sys.executable, "-c", USE], env=environment, start_new_session=True)
    deadline = time.monotonic() + 60
    while not calls.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    pause.unlink()
    assert not list(cache.rglob("kernels-*.so"))

    both = [
        subprocess.Popen(
            [sys.executable, "-c", USE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.strip() == "cpu"
    assert calls.read_text().count("x") == 2  # the killed one, and one of the two
    assert len([path for path in (cache / "kernels").iterdir() if path.suffix == ".so"]) == 1
