"""The Triton kernel against the reference: answers and every gradient, over random shapes; bits and tracing.

Run by test_triton_kernel.py in a process of its own, because Triton decides at its import whether it interprets:

    TRITON_INTERPRET=1 pytest tests/ops/triton_kernel_cases.py      on a CPU, in Triton's interpreter
    pytest tests/ops/triton_kernel_cases.py                         on a GPU
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swin_transformer_pytorch.ops import (
    available_implementations,
    choose_implementation,
    force_implementation,
    window_attention,
)
from swin_transformer_pytorch.ops.triton import kernel

Pair = tuple[int, int]
Case = tuple[dict[str, Tensor], dict[str, Pair], int]

DEVICE = "cpu" if kernel.INTERPRETED else "cuda"


@pytest.fixture(autouse=True, scope="module")
def interpreter() -> Iterator[None]:
    """It holds bfloat16 as whole numbers, and multiplies those: it should widen them first. And its checks of every
    sum of indices take a third of its time."""
    if not kernel.INTERPRETED:
        yield
        return
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, InterpreterOptions, interpreter_builder

    real = InterpreterBuilder.create_dot

    def widened(self: Any, a: Any, b: Any, *others: Any) -> Any:
        if a.dtype.scalar == tl.bfloat16:
            a, b = self.cast_impl(a, tl.float32), self.cast_impl(b, tl.float32)
        return real(self, a, b, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", widened)
        patch.setattr(interpreter_builder, "options", InterpreterOptions(sanitize_overflow=False))
        yield


def make(
    window: Pair, shift: Pair, size: tuple[int, int, int], heads: int, head_dim: int, *, pad: bool, v2: bool, seed: int
) -> tuple[dict[str, Tensor], dict[str, Pair]]:
    """Tensors in float64 for a map of `size` (B, H, W), and window and shift."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = {"qkv": normal(*size, 3 * heads * head_dim), "bias": normal(heads, *[window[0] * window[1]] * 2)}
    if pad:
        tensors["pad_token"] = normal(3 * heads * head_dim)
    if v2:
        tensors["logit_scale"] = normal(heads).exp() * 5
    return tensors, {"window_size": window, "shift_size": shift}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Tensors, geometry, and the largest block of a kernel: small ones cut windows into several."""
    window = draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    shift = (draw(st.integers(0, window[0] - 1)), draw(st.integers(0, window[1] - 1)))
    # At most two by two windows: the interpreter takes up to a second for each window and head.
    height, width = (draw(st.integers(1, 2 * side)) for side in window)
    tensors, geometry = make(
        window,
        shift,
        (1, height, width),
        draw(st.integers(1, 2)),
        draw(st.sampled_from([8, 24, 32, 40])),
        pad=draw(st.booleans()),
        v2=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    if draw(st.booleans()):
        tensors["qkv"] = tensors["qkv"].transpose(1, 2).contiguous().transpose(1, 2)
    return tensors, geometry, draw(st.sampled_from([16, 64]))


def answers(
    implementation: str, tensors: dict[str, Tensor], geometry: dict[str, Pair], dtype: torch.dtype
) -> tuple[Tensor, dict[str, Tensor]]:
    """The op's result, and the gradient of each tensor for one and the same gradient of the result."""
    device = "cpu" if implementation == "reference" else DEVICE
    wide = torch.promote_types(dtype, torch.float32)
    leaves = {
        name: tensor.to(device, dtype if name in ("qkv", "pad_token") else wide).detach().requires_grad_()
        for name, tensor in tensors.items()
    }
    with force_implementation(implementation):
        out = window_attention(**leaves, **geometry)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(out)
    grads = torch.autograd.grad(out, list(leaves.values()), upstream, allow_unused=True)
    zero_if_unused = [torch.zeros_like(t) if g is None else g for t, g in zip(leaves.values(), grads, strict=True)]
    return out.detach().cpu(), {name: grad.cpu() for name, grad in zip(leaves, zero_if_unused, strict=True)}


def check_in_float32(tensors: dict[str, Tensor], geometry: dict[str, Pair]) -> None:
    expected, expected_grads = answers("reference", tensors, geometry, torch.float64)
    got, got_grads = answers("triton", tensors, geometry, torch.float32)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)
    for name, grad in expected_grads.items():
        size = grad.abs().max().item() + 1
        torch.testing.assert_close(
            got_grads[name].double() / size, grad / size, rtol=0, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


@settings(max_examples=8 if kernel.INTERPRETED else 100, deadline=None)
@given(case=cases())
def test_answer_and_every_gradient_equal_the_reference_in_float64(case: Case) -> None:
    tensors, geometry, largest_block = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_LARGEST_BLOCK", largest_block)
        check_in_float32(tensors, geometry)


@pytest.mark.parametrize(
    ("window", "shift", "size", "v2"),
    [
        ((1, 1), (0, 0), (1, 1, 2), True),
        ((7, 7), (3, 3), (1, 6, 9), False),
        ((8, 8), (4, 4), (1, 7, 9), True),
        pytest.param((10, 7), (5, 0), (1, 9, 13), False, marks=pytest.mark.slow),
        pytest.param((12, 12), (6, 6), (1, 11, 12), True, marks=pytest.mark.slow),
        pytest.param((24, 24), (12, 12), (1, 20, 24), True, marks=pytest.mark.slow),
    ],
)
def test_windows_of_published_models_and_larger_ones(
    window: Pair, shift: Pair, size: tuple[int, int, int], v2: bool
) -> None:
    check_in_float32(*make(window, shift, size, 1, 32, pad=True, v2=v2, seed=0))


@pytest.mark.parametrize(
    ("dtype", "v2", "largest_block"),
    [
        (torch.bfloat16, False, 64),
        (torch.bfloat16, True, 16),
        (torch.float16, False, 16),
        (torch.float16, True, 64),
    ],
)
def test_half_precision_is_the_reference_rounded(
    dtype: torch.dtype, v2: bool, largest_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_LARGEST_BLOCK", largest_block)
    tensors, geometry = make((3, 6), (1, 2), (1, 3, 8), 1, 24, pad=True, v2=v2, seed=0)
    expected, expected_grads = answers("reference", tensors, geometry, dtype)
    got, got_grads = answers("triton", tensors, geometry, dtype)
    assert got.dtype == dtype
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(got.float(), expected.float(), rtol=rounding, atol=2 * rounding)
    for name, grad in expected_grads.items():
        size = grad.float().abs().max().item() + 1
        assert got_grads[name].dtype == grad.dtype
        assert ((got_grads[name].float() - grad.float()).abs().max() / size).item() < 3 * rounding, name


def test_scores_beyond_the_range_of_exp_stay_exact() -> None:
    """V2's scores reach 116, and -100 is added: the weights of masked keys are tiny but right."""
    tensors, geometry = make((4, 4), (2, 2), (1, 6, 6), 1, 8, pad=False, v2=True, seed=0)
    tensors["qkv"] *= 30
    tensors["logit_scale"] = torch.full((1,), 100.0, dtype=torch.float64)
    expected, _ = answers("reference", tensors, geometry, torch.float64)
    got, grads = answers("triton", tensors, geometry, torch.float32)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-3)
    assert all(grad.isfinite().all() for grad in grads.values())


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # also of what is then not stored
@pytest.mark.parametrize("largest_block", [64, pytest.param(16, marks=pytest.mark.slow)])
def test_keys_of_length_zero_keep_gradients_finite_in_half_precision(
    largest_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V2's padding has no key: only that part of the padding token's gradient, which nobody uses, may be infinite."""
    monkeypatch.setattr(kernel, "_LARGEST_BLOCK", largest_block)
    tensors, geometry = make((3, 6), (1, 2), (1, 3, 8), 1, 8, pad=True, v2=True, seed=0)
    tensors["pad_token"][8:16] = 0
    out, grads = answers("triton", tensors, geometry, torch.float16)
    pad = grads.pop("pad_token")
    for tensor in (out, pad[:8], pad[16:], *grads.values()):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("largest_block", [16, 64])
def test_bits_are_the_same_whatever_shares_the_windows(largest_block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs agree to the bit; fewer programs, each with more windows, change the shared sums by rounding only."""
    monkeypatch.setattr(kernel, "_LARGEST_BLOCK", largest_block)
    tensors, geometry = make((3, 6), (1, 2), (1, 3, 8), 1, 8, pad=True, v2=True, seed=0)

    def results(programs: int) -> dict[str, Tensor]:
        monkeypatch.setattr(kernel, "_PROGRAMS", programs)
        out, grads = answers("triton", tensors, geometry, torch.float32)
        return {"out": out, **grads}

    many, one = results(2048), results(1)
    again = many if kernel.INTERPRETED else results(2048)  # the interpreter has no order to change
    for name, tensor in many.items():
        assert torch.equal(tensor, again[name]), name
        torch.testing.assert_close(tensor, one[name], rtol=1e-4, atol=1e-5)
    for name in ("out", "qkv"):  # no sum over windows
        assert torch.equal(many[name], one[name]), name


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_is_a_well_behaved_operator() -> None:
    tensors, _ = make((2, 3), (1, 2), (1, 2, 2), 1, 8, pad=True, v2=True, seed=0)
    leaves = {name: tensor.to(DEVICE, torch.float32).requires_grad_() for name, tensor in tensors.items()}
    qkv, bias = leaves.pop("qkv"), leaves.pop("bias")
    operator = getattr(torch.ops.swin_transformer_pytorch, kernel._OPERATOR).default
    torch.library.opcheck(operator, (qkv, bias, (2, 3), (1, 2), *leaves.values(), True))


def test_without_gradients_nothing_is_kept_for_them() -> None:
    tensors, geometry = make((2, 2), (1, 1), (1, 3, 3), 1, 8, pad=True, v2=False, seed=0)
    expected, _ = answers("triton", tensors, geometry, torch.float32)
    inputs = {name: tensor.to(DEVICE, torch.float32) for name, tensor in tensors.items()}
    with torch.no_grad(), force_implementation("triton"):
        out = window_attention(**inputs, **geometry)
    assert torch.equal(out.cpu(), expected)


def test_an_empty_batch_gives_an_empty_map() -> None:
    tensors, geometry = make((7, 7), (0, 0), (0, 7, 7), 1, 8, pad=True, v2=True, seed=0)
    out, grads = answers("triton", tensors, geometry, torch.float32)
    assert out.shape == (0, 7, 7, 8)
    assert all((grad == 0).all() for grad in grads.values())


def test_what_it_does_not_take_is_named() -> None:
    for dtype, channels, message in ((torch.float64, 24, "float64"), (torch.float32, 36, "head_dim is 12")):
        qkv, bias = torch.zeros(1, 2, 2, channels, dtype=dtype, device=DEVICE), torch.zeros(1, 4, 4, device=DEVICE)
        with force_implementation("triton"), pytest.raises(ValueError, match=message):
            window_attention(qkv, bias, window_size=(2, 2), shift_size=(0, 0))


def test_is_chosen_on_a_gpu_and_never_interpreted_unasked() -> None:
    assert "triton" in available_implementations()
    for dtype in kernel.DTYPES:
        for training in (False, True):
            chosen = choose_implementation("cuda", training=training, dtype=dtype)
            assert chosen == ("sdpa" if kernel.INTERPRETED else "triton")
    assert choose_implementation("cuda", training=True, dtype=torch.float64) == "sdpa"
    assert choose_implementation("cuda", training=True, head_dim=12) == "sdpa"
