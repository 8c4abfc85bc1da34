"""The CPU's own layer normalisation against PyTorch's in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swin_transformer_pytorch.ops import force_implementation, has_own_layer_norm, layer_norm_into
from swin_transformer_pytorch.ops.cpu import library

pytestmark = pytest.mark.skipif(library.why_not() is not None, reason=f"no CPU kernel here: {library.why_not()}")


@pytest.fixture(autouse=True)
def taken_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_PRODUCTS", "own")


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 300),
    width=st.integers(1, 60).map(lambda count: 16 * count),
    is_bfloat16=st.booleans(),
    with_residual=st.booleans(),
    offset=st.sampled_from([0.0, 30.0, -1000.0]),
    in_place=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_like_pytorchs(
    rows: int, width: int, is_bfloat16: bool, with_residual: bool, offset: float, in_place: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.bfloat16 if is_bfloat16 else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    x, weight, bias = (normal(rows, width) + offset).to(dtype), normal(width), normal(width)
    residual = normal(rows, width).to(dtype) if with_residual else None
    exact = F.layer_norm(x.double(), (width,), weight.double(), bias.double(), 1e-5)
    exact = exact if residual is None else exact + residual
    out = layer_norm_into(x if in_place else torch.empty_like(x), x, weight, bias, residual, eps=1e-5)
    # What is left of x's last digits by its mean, and of the result's in bfloat16.
    allowed = (2.0**-8 if is_bfloat16 else 2.0**-22) * exact.abs() + 1e-5 + 1e-6 * abs(offset)
    assert ((out.double() - exact).abs() <= allowed).all()


def test_what_is_not_finite_stays_in_its_row() -> None:
    x = torch.ones(3, 32)
    x[0, 5], x[1, 5] = math.nan, math.inf
    out = layer_norm_into(torch.empty_like(x), x, torch.ones(32), torch.full((32,), 0.5), eps=1e-5)
    assert out[:2].isnan().all()
    assert (out[2] == 0.5).all()


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    x, weight, bias, threads, found = (
        torch.randn(999, 96),
        torch.randn(96),
        torch.randn(96),
        torch.get_num_threads(),
        [],
    )
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(layer_norm_into(torch.empty_like(x), x, weight, bias, eps=1e-5))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_what_does_not_fit_is_an_error_not_memory_overrun() -> None:
    x, weight = torch.randn(5, 32), torch.ones(32)
    for arguments, said in (
        ((torch.empty(5, 24), torch.empty(5, 24), weight, weight), "multiple of 16"),
        ((x.half(), x.half(), weight, weight), "float16"),
        ((x, x, torch.ones(16), weight), r"\(16,\) and \(32,\)"),
        ((torch.empty(4, 32), x, weight, weight), r"out and residual are not: \[\(4, 32\)\]"),
        ((x, x, weight, weight, torch.empty(5, 16)), r"\(5, 16\)"),
        ((x, x, weight.bfloat16(), weight), "contiguous torch.float32"),
        ((x.bfloat16(), x, weight, weight), "contiguous torch.float32"),
        ((x, torch.randn(32, 5).t(), weight, weight), "contiguous"),
    ):
        with pytest.raises(ValueError, match=said):
            layer_norm_into(*arguments, eps=1e-5)


def test_only_what_it_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_own_layer_norm(nn.LayerNorm(32))
    assert has_own_layer_norm(nn.LayerNorm(32, bias=False))
    assert has_own_layer_norm(nn.LayerNorm(32, dtype=torch.bfloat16))
    for norm in (
        nn.LayerNorm(24),
        nn.LayerNorm((2, 32)),
        nn.LayerNorm(32, elementwise_affine=False),
        nn.LayerNorm(32, device="meta"),
        nn.LayerNorm(32, dtype=torch.float64),
    ):
        assert not has_own_layer_norm(norm)
    with force_implementation("reference"):
        assert not has_own_layer_norm(nn.LayerNorm(32))
    monkeypatch.setenv("SWIN_PRODUCTS", "torch")
    assert not has_own_layer_norm(nn.LayerNorm(32))


def test_the_operator_is_well_behaved() -> None:
    x, weight = torch.randn(5, 32), torch.ones(32)
    for residual in (None, torch.randn(5, 32)):
        torch.library.opcheck(
            torch.ops.swin_transformer_pytorch.layer_norm_into.default,
            (torch.empty(5, 32), x, weight, weight, residual, 1e-5),
        )
