"""The CPU's own products and GELU against PyTorch's in float64: answers, every gradient, where they are taken."""

import importlib
import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from swin_transformer_pytorch.ops import force_implementation, has_packed_linear, linear, mlp
from swin_transformer_pytorch.ops.cpu import library
from swin_transformer_pytorch.ops.cpu import linear as kernels

# `ops.linear` is the function; the module is found by its path.
products = importlib.import_module("swin_transformer_pytorch.ops.linear")

pytestmark = pytest.mark.skipif(library.why_not() is not None, reason=f"no CPU kernel here: {library.why_not()}")

WIDTHS = st.sampled_from([16, 32, 48, 96, 112, 208])


@pytest.fixture(autouse=True)
def taken_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_PRODUCTS", "own")


@pytest.fixture
def own_products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of weights that are packed from now on."""
    packed = []
    real = kernels.pack_weight

    def pack_weight(weight: Tensor, *, transposed: bool) -> Tensor:
        packed.append(tuple(weight.shape))
        return real(weight, transposed=transposed)

    monkeypatch.setattr(products, "pack_weight", pack_weight)
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
    rows=st.integers(products.FEWEST_ROWS, 700),
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
    assert products._takes(x, (tensors[1], tensors[2] if with_bias else None))
    assert_same(answers(linear, tensors, torch.float32), answers(F.linear, tensors, torch.float64))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(products.FEWEST_ROWS, 700),
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
        patch.setattr(products, "PIECE_FLOATS", piece)
        got = answers(mlp, tensors, torch.float32)
        with torch.no_grad():
            without_gradients = mlp(*tensors)
    assert_same(got, answers(plain_mlp, tensors, torch.float64))
    assert_same([without_gradients], [got[0].double()])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.one_of(st.integers(0, 600), st.integers(2000, 5000)),
    outputs=WIDTHS,
    inputs=st.one_of(WIDTHS, st.sampled_from([784, 1600])),
    with_bias=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_gradients_are_added_to_what_is_there(rows: int, outputs: int, inputs: int, with_bias: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    grad, x = torch.randn(rows, outputs, generator=generator), torch.randn(rows, inputs, generator=generator)
    weight_grad, bias_grad = torch.randn(outputs, inputs, generator=generator), torch.randn(outputs)
    expected = weight_grad.double() + grad.double().t() @ x.double(), bias_grad.double() + grad.double().sum(0)
    kernels.add_weight_gradient(weight_grad, bias_grad if with_bias else None, grad, x)
    assert_same([weight_grad], [expected[0]])
    if with_bias:
        assert_same([bias_grad], [expected[1]])


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
    grad, x = torch.randn(5000, 48), torch.randn(5000, 112)  # whose rows are cut into stretches
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            product = kernels.linear_into(torch.empty(517, 384), tensors[0], panels, tensors[2], gelu=True)
            sums = torch.zeros(48, 112), torch.zeros(48)
            kernels.add_weight_gradient(*sums, grad, x)
            found.append([product, kernels.pack_weight(tensors[3], transposed=False), mlp(*tensors), *sums])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("shape", [(0, 32), (2, 0, 32)])
def test_products_of_nothing(shape: tuple[int, ...]) -> None:
    panels = kernels.pack_weight(torch.randn(16, 32), transposed=True)
    assert kernels.linear_into(torch.empty(*shape[:-1], 16), torch.empty(shape), panels).numel() == 0


def test_residual_sum() -> None:
    x, weight, bias, residual = torch.randn(70, 96), torch.randn(48, 96), torch.randn(48), torch.randn(70, 48)
    out = kernels.linear_into(torch.empty(70, 48), x, kernels.pack_weight(weight, transposed=True), bias, residual)
    torch.testing.assert_close(out, F.linear(x, weight, bias) + residual, rtol=1e-5, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 300),
    depth=st.sampled_from([32, 64, 96, 224, 1568, 3072]),
    columns=WIDTHS,
    with_bias=st.booleans(),
    ending=st.sampled_from(["nothing", "gelu", "residual"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_bfloat16_is_rounded_once(rows: int, depth: int, columns: int, with_bias: bool, ending: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    x, weight = normal(rows, depth).bfloat16(), (normal(columns, depth) / math.sqrt(depth)).bfloat16()
    bias = normal(columns) if with_bias else None
    residual = normal(rows, columns).bfloat16() if ending == "residual" else None
    panels = kernels.pack_weight(weight, transposed=True)
    assert (panels.dtype, panels.shape) == (weight.dtype, weight.shape)
    out = kernels.linear_into(x.new_empty(rows, columns), x, panels, bias, residual, gelu=ending == "gelu")
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    exact = F.gelu(exact) if ending == "gelu" else exact if residual is None else exact + residual
    # Half a unit in the last place of 8 bits, and what float32 rounds in sums.
    assert ((out.double() - exact).abs() <= 2.0**-8 * exact.abs() + 1e-5).all()


def test_bfloat16_keeps_what_is_not_finite() -> None:
    x = torch.zeros(3, 32, dtype=torch.bfloat16)
    x[0, 3], x[1, 7] = math.inf, math.nan
    panels = kernels.pack_weight(torch.ones(16, 32, dtype=torch.bfloat16), transposed=True)
    out = kernels.linear_into(x.new_empty(3, 16), x, panels)
    assert (out[0] == math.inf).all()
    assert out[1].isnan().all()
    assert (out[2] == 0).all()


@pytest.mark.parametrize("wanted", [*itertools.product([False, True], repeat=5)])
def test_an_mlp_whose_parts_are_frozen(wanted: tuple[bool, ...]) -> None:
    """And that gives out another number of channels than it takes."""
    torch.manual_seed(0)
    shapes = [(3, 100, 32), (64, 32), (64,), (48, 64), (48,)]
    tensors = [torch.randn(shape).requires_grad_(wants) for shape, wants in zip(shapes, wanted, strict=True)]
    exact = [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in tensors]
    out, expected = mlp(*tensors), plain_mlp(*exact)
    assert out.requires_grad == any(wanted)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-4)
    if any(wanted):
        out.square().mean().backward()
        expected.square().mean().backward()
    for tensor, right in zip(tensors, exact, strict=True):
        assert (tensor.grad is None) == (right.grad is None)
        if tensor.grad is not None and right.grad is not None:
            torch.testing.assert_close(tensor.grad.double(), right.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wanted", [*itertools.product([False, True], repeat=3)])
def test_a_linear_layer_whose_parts_are_frozen(wanted: tuple[bool, ...]) -> None:
    torch.manual_seed(0)
    shapes = [(300, 32), (48, 32), (48,)]
    tensors = [torch.randn(shape).requires_grad_(wants) for shape, wants in zip(shapes, wanted, strict=True)]
    exact = [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in tensors]
    if any(wanted):
        linear(*tensors).square().mean().backward()
        F.linear(*exact).square().mean().backward()
    for tensor, right in zip(tensors, exact, strict=True):
        assert (tensor.grad is None) == (right.grad is None)
        if tensor.grad is not None and right.grad is not None:
            torch.testing.assert_close(tensor.grad.double(), right.grad, rtol=1e-4, atol=1e-4)


def test_backward_inside_autocast_keeps_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "PIECE_FLOATS", 5000)
    x, weight1, weight2 = torch.randn(300, 32), torch.randn(64, 32), torch.randn(32, 64)
    weight1.requires_grad_()
    grads = []
    for enabled in (False, True):
        out = mlp(x, weight1, None, weight2, None).sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            grads += torch.autograd.grad(out, weight1)
    assert torch.equal(*grads)


def test_what_was_saved_must_not_be_changed() -> None:
    x, weight = torch.randn(300, 32, requires_grad=True), torch.randn(48, 32, requires_grad=True)
    out = linear(x, weight).sum()
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_only_what_it_takes(own_products: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(300, 32), torch.randn(48, 32)
    linear(x, weight)
    assert own_products.pop() == (48, 32)
    few = x[: products.FEWEST_ROWS - 1]
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    with force_implementation("reference"):
        linear(x, weight)
    for given_x, given_weight in (
        (few, weight),
        (x.double(), weight.double()),
        (x.bfloat16(), weight.bfloat16()),
        (x, torch.randn(40, 32)),
        (torch.randn(300, 24), torch.randn(48, 24)),
        (x.to("meta"), weight.to("meta")),
        (x, weight.as_subclass(OfAnotherClass)),
        (x.as_subclass(OfAnotherClass), weight),
        (x, torch.randn(48, 32).to_sparse_coo()),
        (torch.randn(300, 0), torch.randn(48, 0)),
        (x, torch.randn(0, 32)),
    ):
        out = linear(given_x, given_weight)
        assert out.shape == (len(given_x), len(given_weight))
    assert own_products == []


def test_pytorchs_products_where_they_are_asked_for(
    own_products: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWIN_PRODUCTS", "torch")
    x, weight = torch.randn(300, 32), torch.randn(48, 32)
    assert not has_packed_linear(weight)
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight), rtol=0, atol=0)
    assert own_products == []


def test_sizes_that_do_not_fit_are_left_to_pytorchs_error() -> None:
    x, weight, bias = torch.randn(300, 32), torch.randn(48, 32), torch.randn(48)
    assert products._takes(x, (weight, bias), (torch.randn(32, 48), None))
    assert not products._takes(x, (torch.randn(48, 64), bias))
    assert not products._takes(x, (weight, torch.randn(32)))
    assert not products._takes(x, (weight, bias.double()))
    assert not products._takes(x, (weight, bias), (torch.randn(32, 64), None))
    assert not products._takes(x, (weight, bias.to("meta")))
    assert not products._takes(torch.tensor(1.0), (weight, bias))


def test_function_transforms_see_pytorchs_operators(own_products: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(300, 32), torch.randn(48, 32)

    def loss(w: Tensor) -> Tensor:
        return linear(x, w).square().sum()

    torch.testing.assert_close(torch.func.grad(loss)(weight), 2 * (x @ weight.t()).t() @ x, rtol=1e-4, atol=1e-2)
    several = torch.func.vmap(linear, in_dims=(None, 0))(x, torch.randn(3, 48, 32))
    assert several.shape == (3, 300, 48)
    assert own_products == []


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own, where it decomposes
def test_modes_and_forward_derivatives_see_pytorchs_operators(own_products: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(300, 32), torch.randn(48, 32)
    with FlopCounterMode(display=False) as counter:
        linear(x, weight)
    assert counter.get_total_flops() == 2 * 300 * 32 * 48
    with torch.no_grad(), forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(linear(forward_ad.make_dual(x, torch.ones_like(x)), weight)).tangent
    torch.testing.assert_close(tangent, torch.ones_like(x) @ weight.t())
    assert own_products == []


def test_what_does_not_fit_is_an_error_not_memory_overrun() -> None:
    panels, x, out = kernels.pack_weight(torch.randn(48, 32), transposed=True), torch.randn(9, 32), torch.empty(9, 48)
    for arguments, said in (
        ((out, torch.randn(9, 64), panels), "takes 32 channels"),
        ((torch.empty(8, 48), x, panels), r"out is \(8, 48\)"),
        ((out, x, panels, torch.randn(32)), r"bias is \(32,\)"),
        ((out, x, panels, None, torch.randn(8, 48)), "residual must be"),
        ((out, x.double(), panels), "float64"),
        ((out.half(), x, panels), "float16"),
        ((out, torch.randn(32, 9).t(), panels), "contiguous"),
        ((out, x, panels.bfloat16()), "contiguous torch.bfloat16 tensors here, not torch.float32"),
        ((out.bfloat16(), x.bfloat16(), panels.bfloat16(), torch.randn(48).bfloat16()), "contiguous torch.float32"),
    ):
        with pytest.raises(ValueError, match=said):
            kernels.linear_into(*arguments)
    with pytest.raises(ValueError, match="without gelu"):
        kernels.linear_into(out, x, panels, None, out, gelu=True)
    for shape in ((40, 20), (16,), (0, 16)):
        with pytest.raises(ValueError, match="multiples of 16"):
            kernels.pack_weight(torch.randn(shape), transposed=False)
    with pytest.raises(ValueError, match="multiples of 16 and 32"):
        kernels.pack_weight(torch.randn(32, 48).bfloat16(), transposed=True)
    for refused, transposed in ((torch.randn(32, 64).bfloat16(), False), (torch.randn(32, 64).half(), True)):
        with pytest.raises(ValueError, match="must be float32, or bfloat16 and transposed"):
            kernels.pack_weight(refused, transposed=transposed)
    weight_grad, grad = torch.zeros(48, 32), torch.randn(9, 48)
    for arguments, said in (
        ((torch.zeros(40, 32), None, grad, x), "two multiples of 16"),
        ((weight_grad, None, torch.randn(9, 32), x), "makes 48 channels of 32"),
        ((weight_grad, None, grad, torch.randn(8, 32)), r"x \(8, 32\)"),
        ((weight_grad, torch.zeros(32), grad, x), r"bias's gradient is \(32,\)"),
        ((weight_grad, None, grad.bfloat16(), x), "contiguous torch.float32"),
        ((weight_grad, None, torch.randn(48, 9).t(), x), "contiguous torch.float32"),
    ):
        with pytest.raises(ValueError, match=said):
            kernels.add_weight_gradient(*arguments)
    with pytest.raises(ValueError, match="one shape"):
        kernels.gelu_into(torch.empty(3), torch.empty(4))


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
    for bias_grad in (None, torch.zeros(16)):
        arguments = (torch.zeros(16, 32), bias_grad, torch.randn(5, 16), x)
        torch.library.opcheck(namespace.add_weight_gradient.default, arguments)
    torch.library.opcheck(namespace.gelu_into.default, (torch.empty(5, 32), x))
    torch.library.opcheck(namespace.multiply_by_gelu_derivative.default, (torch.ones(5, 32), x))
