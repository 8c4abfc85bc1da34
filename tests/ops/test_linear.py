"""The CPU's own products and GELU against PyTorch's in float64: answers, every gradient, where they are taken."""

import math
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swin_transformer_pytorch.ops import force_implementation, has_packed_linear, linear, mlp
from swin_transformer_pytorch.ops.cpu import library
from swin_transformer_pytorch.ops.cpu import linear as kernels

# `ops.linear` is the function; this is its module.
module = sys.modules["swin_transformer_pytorch.ops.linear"]

pytestmark = pytest.mark.skipif(library.why_not() is not None, reason=f"no CPU kernel here: {library.why_not()}")

WIDTHS = st.sampled_from([16, 32, 48, 96, 112, 208])


@pytest.fixture(autouse=True)
def taken_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


@pytest.fixture
def own_products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of weights that are packed from now on."""
    packed = []
    real = kernels.pack_weight

    def pack_weight(weight: Tensor, *, transposed: bool) -> Tensor:
        packed.append(tuple(weight.shape))
        return real(weight, transposed=transposed)

    monkeypatch.setattr(module, "pack_weight", pack_weight)
    return packed


class OfAnotherClass(Tensor):
    """As a quantised weight is: what lies in its memory is its own affair."""


def plain_mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    return F.linear(F.gelu(F.linear(x, weight1, bias1)), weight2, bias2)


def answers(function: Callable[..., Tensor], tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The result, and the gradient of each tensor for one and the same gradient of the result."""
    leaves = [tensor.to(dtype).detach().requires_grad_() for tensor in tensors]
    out = function(*leaves)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == torch.float32
        assert one.shape == other.shape
        error = (one.double() - other).abs().max().item()
        assert error <= 1e-5 * (1 + other.abs().max().item()), error


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(module.FEWEST_ROWS, 700),
    depth=st.one_of(WIDTHS, st.sampled_from([784, 1600])),
    columns=WIDTHS,
    with_bias=st.booleans(),
    turned=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_linear_and_its_gradients(
    rows: int, depth: int, columns: int, with_bias: bool, turned: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(depth, rows, generator=generator).t() if turned else torch.randn(rows, depth, generator=generator)
    tensors = [x, torch.randn(columns, depth, generator=generator) / math.sqrt(depth)]
    if with_bias:
        tensors.append(torch.randn(columns, generator=generator))
    assert module._takes(x, (tensors[1], tensors[2] if with_bias else None))
    assert_same(answers(linear, tensors, torch.float32), answers(F.linear, tensors, torch.float64))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(module.FEWEST_ROWS, 700),
    width=WIDTHS,
    hidden=WIDTHS,
    piece=st.sampled_from([3000, 20_000, 1 << 20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_mlp_and_its_gradients_in_pieces(rows: int, width: int, hidden: int, piece: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    tensors = [2 * normal(1, rows, width), normal(hidden, width) / math.sqrt(width), normal(hidden)]
    tensors += [normal(width, hidden) / math.sqrt(hidden), normal(width)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE_FLOATS", piece)
        got = answers(mlp, tensors, torch.float32)
        with torch.no_grad():
            without_gradients = mlp(*tensors)
    assert_same(got, answers(plain_mlp, tensors, torch.float64))
    assert_same([without_gradients], [got[0].double()])


def test_gelu_is_right_from_end_to_end() -> None:
    x = torch.cat([torch.linspace(-15, 15, 100_003), torch.tensor([1e30, -1e30, 0.0, -0.0, 3e-39])])
    exact = x.double().requires_grad_()
    expected = F.gelu(exact)
    (derivative,) = torch.autograd.grad(expected.sum(), exact)
    scale = x.abs().clamp(min=1)
    assert ((kernels.gelu_into(torch.empty_like(x), x) - expected).abs() / scale).max() < 3e-7
    assert (kernels.multiply_by_gelu_derivative(torch.ones_like(x), x) - derivative).abs().max() < 5e-7


def test_gelu_keeps_what_is_not_finite_and_may_be_in_place() -> None:
    for count in (1, 7, 64):
        nan, inf = torch.full((count,), math.nan), torch.full((count,), math.inf)
        assert kernels.gelu_into(nan, nan).isnan().all()
        assert kernels.multiply_by_gelu_derivative(torch.ones(count), nan).isnan().all()
        assert (kernels.gelu_into(inf, inf) == math.inf).all()
        assert kernels.gelu_into(torch.empty(count), torch.full((count,), -math.inf)).abs().max() < 1e-20


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(517, 96), torch.randn(384, 96), torch.randn(384), torch.randn(96, 384), torch.randn(96)]
    threads, found = torch.get_num_threads(), []
    panels = kernels.pack_weight(tensors[1], transposed=True)
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            product = kernels.linear_into(torch.empty(517, 384), tensors[0], panels, tensors[2], gelu=True)
            found.append([product, kernels.pack_weight(tensors[3], transposed=False), mlp(*tensors)])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("shape", [(0, 32), (2, 0, 32)])
def test_products_of_nothing(shape: tuple[int, ...]) -> None:
    panels = kernels.pack_weight(torch.randn(16, 32), transposed=True)
    assert kernels.linear_into(torch.empty(*shape[:-1], 16), torch.empty(shape), panels).numel() == 0
    x = torch.empty(shape, requires_grad=True)
    linear(x, torch.randn(16, 32)).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape


def test_residual_sum() -> None:
    x, weight, bias, residual = torch.randn(70, 96), torch.randn(48, 96), torch.randn(48), torch.randn(70, 48)
    out = kernels.linear_into(torch.empty(70, 48), x, kernels.pack_weight(weight, transposed=True), bias, residual)
    torch.testing.assert_close(out, F.linear(x, weight, bias) + residual, rtol=1e-5, atol=1e-4)


def test_frozen_parameters_have_no_gradients(own_products: list[tuple[int, ...]]) -> None:
    x = torch.randn(300, 32, requires_grad=True)
    weights = [torch.randn(64, 32), torch.randn(64), torch.randn(32, 64), torch.randn(32)]
    exact = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(plain_mlp(exact, *[w.double() for w in weights]).sum(), exact)
    (got,) = torch.autograd.grad(mlp(x, *weights).sum(), x)
    assert not mlp(x.detach(), weights[0], None, weights[2], None).requires_grad
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-3)
    assert own_products


def test_only_what_it_takes(own_products: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(300, 32), torch.randn(48, 32)
    linear(x, weight)
    assert own_products.pop() == (48, 32)
    few = x[: module.FEWEST_ROWS - 1]
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    with force_implementation("reference"):
        linear(x, weight)
    for given_x, given_weight in (
        (few, weight),
        (x.double(), weight.double()),
        (x, torch.randn(40, 32)),
        (torch.randn(300, 24), torch.randn(48, 24)),
        (x.to("meta"), weight.to("meta")),
        (x, weight.as_subclass(OfAnotherClass)),
        (x.as_subclass(OfAnotherClass), weight),
    ):
        out = linear(given_x, given_weight)
        assert out.shape == (len(given_x), len(given_weight))
    assert own_products == []


def test_other_processors_keep_pytorchs_products(
    own_products: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    x, weight = torch.randn(300, 32), torch.randn(48, 32)
    assert not has_packed_linear(weight)
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight), rtol=0, atol=0)
    assert own_products == []


def test_sizes_that_do_not_fit_are_left_to_pytorchs_error() -> None:
    x, weight, bias = torch.randn(300, 32), torch.randn(48, 32), torch.randn(48)
    assert module._takes(x, (weight, bias), (torch.randn(32, 48), None))
    assert not module._takes(x, (torch.randn(48, 64), bias))
    assert not module._takes(x, (weight, torch.randn(32)))
    assert not module._takes(x, (weight, bias.double()))
    assert not module._takes(x, (weight, bias), (torch.randn(32, 64), None))


def test_function_transforms_see_pytorchs_operators(own_products: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(300, 32), torch.randn(48, 32)

    def loss(w: Tensor) -> Tensor:
        return linear(x, w).square().sum()

    torch.testing.assert_close(torch.func.grad(loss)(weight), 2 * (x @ weight.t()).t() @ x, rtol=1e-4, atol=1e-2)
    several = torch.func.vmap(linear, in_dims=(None, 0))(x, torch.randn(3, 48, 32))
    assert several.shape == (3, 300, 48)
    assert own_products == []


def test_second_gradients_are_refused() -> None:
    x = torch.randn(300, 32, requires_grad=True)
    (grad,) = torch.autograd.grad(linear(x, torch.randn(48, 32)).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("gelu", [False, True])
def test_operators_are_well_behaved(gelu: bool) -> None:
    namespace = torch.ops.swin_transformer_pytorch
    x, weight = torch.randn(5, 32), torch.randn(16, 32)
    for transposed in (False, True):
        torch.library.opcheck(namespace.pack_weight.default, (weight, transposed))
    panels = kernels.pack_weight(weight, transposed=True)
    residual = None if gelu else torch.randn(5, 16)
    torch.library.opcheck(
        namespace.linear_into.default, (torch.empty(5, 16), x, panels, torch.randn(16), residual, gelu)
    )
    torch.library.opcheck(namespace.gelu_into.default, (torch.empty(5, 32), x))
    torch.library.opcheck(namespace.multiply_by_gelu_derivative.default, (torch.ones(5, 32), x))
