"""GELU's kernel against PyTorch's in float64: values, gradients, special numbers, and where it steps aside."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swin_transformer_pytorch.ops import gelu, gelu_
from swin_transformer_pytorch.ops.cpu import kernel

needs_kernel = pytest.mark.skipif(kernel.why_not() is not None, reason=f"no CPU kernel here: {kernel.why_not()}")


def numbers() -> Tensor:
    torch.manual_seed(0)
    large = torch.tensor([0.0, -0.0, 1e-40, 1e-8, 11.999, 12.0, 12.001, 100.0, 1e4, 3e38])
    return torch.cat([torch.linspace(-14, 14, 200_001), 3 * torch.randn(9_999), large, -large])


def with_gradient(function: object, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    out = function(leaf)  # type: ignore[operator]
    (grad,) = torch.autograd.grad(out.sum(), leaf)
    return out.detach(), grad


@needs_kernel
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)])
def test_values_and_gradients_are_pytorchs_in_float64(dtype: torch.dtype, precision: float) -> None:
    x = numbers().to(dtype)
    x = x[x.isfinite()]
    expected, expected_grad = with_gradient(F.gelu, x.double())
    out, grad = with_gradient(gelu, x)
    assert out.dtype == grad.dtype == dtype
    assert ((out.double() - expected).abs() / x.double().abs().clamp(min=1)).max() <= precision
    assert (grad.double() - expected_grad).abs().max() <= precision * 1.2


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_special_numbers(dtype: torch.dtype) -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0], dtype=dtype)
    out, grad = with_gradient(gelu, x)
    assert out[0].isnan() and grad[0].isnan()
    assert out[1:].tolist() == [math.inf, 0, 0, 0]
    assert out.signbit()[3:].tolist() == [False, True]
    assert grad[1:].tolist() == pytest.approx([1, 0, 0.5, 0.5], abs=1e-6)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 31, 4095, 4097, 40_003])
def test_every_count_in_and_out_of_place(count: int, dtype: torch.dtype) -> None:
    whole = torch.randn(count + 2).to(dtype)
    x = whole[1:-1]
    expected, ends = gelu(x.clone()), (whole[0].item(), whole[-1].item())
    torch.testing.assert_close(expected, F.gelu(x), atol=1e-6 if dtype == torch.float32 else 2e-2, rtol=0)
    version = x._version
    assert gelu_(x) is x and torch.equal(x, expected) and x._version > version
    assert (whole[0].item(), whole[-1].item()) == ends


@needs_kernel
def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    x, threads, found = 3 * torch.randn(100_003), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(with_gradient(gelu, x))
    finally:
        torch.set_num_threads(threads)
    for out, grad in found[1:]:
        assert torch.equal(out, found[0][0]) and torch.equal(grad, found[0][1])


def test_what_the_kernel_does_not_take_is_pytorchs() -> None:
    x = torch.randn(5, 7)
    for other in (x.T, x.double(), x.half()):
        assert torch.equal(gelu(other), F.gelu(other))
        assert torch.equal(gelu_(other.clone()), F.gelu(other))
    assert torch.equal(torch.func.vmap(gelu)(x), F.gelu(x))
    leaf = x.clone().requires_grad_()
    gelu_(leaf * 1).sum().backward()
    torch.testing.assert_close(leaf.grad, with_gradient(F.gelu, x)[1])


def test_exported_graphs_hold_the_plain_operator() -> None:
    class Module(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return gelu(x)

    graph = torch.export.export(Module(), (torch.randn(3, 4),)).graph
    assert torch.ops.aten.gelu.default in {node.target for node in graph.nodes}


@needs_kernel
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_are_well_behaved_operators() -> None:
    ops = torch.ops.swin_transformer_pytorch
    torch.library.opcheck(ops.gelu.default, (torch.randn(3, 5, requires_grad=True),))
    torch.library.opcheck(ops.gelu_.default, (torch.randn(3, 5),))
    torch.library.opcheck(ops.gelu_backward.default, (torch.randn(3, 5), torch.randn(3, 5)))
