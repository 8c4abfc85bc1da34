"""3x3 convolutions by the CPU's own products beside PyTorch's: results, gradients, and where they stand back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from swin_transformer_pytorch import ops
from swin_transformer_pytorch.ops import convolution
from swin_transformer_pytorch.ops.cpu import choice
from swin_transformer_pytorch.ops.cpu.winograd import convolve_into, kernel_gradient, pack_kernel

pytestmark = pytest.mark.skipif(choice.why_not() is not None, reason=f"no CPU kernel here: {choice.why_not()}")


def assert_near(got: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def example(batch: int, size: tuple[int, int], channels: int, columns: int, seed: int = 0) -> tuple[Tensor, ...]:
    torch.manual_seed(seed)
    x = torch.randn(batch, channels, *size, requires_grad=True)
    weight = (0.1 * torch.randn(columns, channels, 3, 3)).requires_grad_()
    return x, weight, torch.randn(columns, requires_grad=True)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    channels=st.sampled_from([16, 64, 80]),
    columns=st.sampled_from([16, 48, 96]),
    relu=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_size(batch: int, size: tuple[int, int], channels: int, columns: int, relu: bool, seed: int) -> None:
    x, weight, bias = (one.detach() for one in example(batch, size, channels, columns, seed))
    got = ops.convolve_packed(x, pack_kernel(weight), bias, relu=relu)
    plain = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    assert (got - (plain.relu() if relu else plain)).abs().max() <= 1e-5 * plain.abs().max()
    grad = torch.randn_like(got)
    inputs = x.double().requires_grad_(), weight.double().requires_grad_()
    grad_x, grad_weight = torch.autograd.grad(F.conv2d(*inputs, padding=1), inputs, grad.double())
    back = ops.convolve_packed(grad, pack_kernel(weight, of_gradient=True), None, relu=False)
    assert_near(back.double(), grad_x)
    rows = [one.permute(0, 2, 3, 1).contiguous() for one in (x, grad)]
    assert_near(kernel_gradient(rows[0], rows[1]).double(), grad_weight)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("wanted", [(0, 1, 2), (0,), (1,), (2,), (0, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients(relu: bool, wanted: tuple[int, ...], layout: torch.memory_format) -> None:
    inputs = [one.detach() for one in example(2, (30, 25), 64, 96)]
    inputs[0] = inputs[0].contiguous(memory_format=layout)
    for place in wanted:
        inputs[place].requires_grad_()
    chosen = [inputs[place] for place in wanted]
    got = ops.convolve(*inputs, relu=relu)
    assert type(got.grad_fn).__name__ == "_ConvolveBackward"
    expected = F.conv2d(*inputs, padding=1)
    expected = expected.relu() if relu else expected
    assert_near(got, expected)
    grad = torch.randn_like(expected)
    pairs = zip(torch.autograd.grad(got, chosen, grad), torch.autograd.grad(expected, chosen, grad), strict=True)
    for one, other in pairs:
        assert_near(one, other)


def test_second_derivatives() -> None:
    x, weight, bias = example(1, (33, 32), 64, 64)
    found = []
    for function in (
        lambda: ops.convolve(x, weight, bias, relu=True),
        lambda: F.conv2d(x, weight, bias, padding=1).relu(),
    ):
        (grad,) = torch.autograd.grad(function().square().sum(), weight, create_graph=True)
        found.append(torch.autograd.grad(grad.square().sum(), (x, weight, bias)))
    for got, expected in zip(*found, strict=True):
        assert_near(got, expected, 1e-4)


def test_the_number_of_threads_changes_no_bit() -> None:
    x, weight, bias = (one.detach() for one in example(1, (70, 61), 64, 96))
    rows = x.permute(0, 2, 3, 1).contiguous()
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = ops.convolve(x, weight, bias)
        found.append((out, kernel_gradient(rows, out.permute(0, 2, 3, 1).contiguous())))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_what_is_no_number_stays_so() -> None:
    x, weight, bias = (one.detach() for one in example(1, (32, 32), 64, 64))
    x[0, 5, 9, 9] = float("nan")
    assert ops.convolve(x, weight, bias, relu=True)[0, :, 9, 9].isnan().all()


def taken(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    return convolution._takes(x, weight, bias)


def test_where_it_stands_back() -> None:
    x, weight, bias = (one.detach() for one in example(1, (32, 32), 64, 64))
    assert taken(x, weight, bias)
    assert not taken(x[:, :, :31], weight, bias)  # few places
    assert not taken(x.bfloat16(), weight.bfloat16())
    assert not taken(x, weight[:40], bias[:40])  # few channels
    assert not taken(x[:, :60], weight[:, :60])
    assert not taken(x, weight[:, :, :1, :1])
    assert not taken(x.to("meta"), weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not taken(x, weight, bias)
    with ops.attention.force_implementation("reference"):
        assert not taken(x, weight, bias)
    assert_near(
        torch.func.vmap(lambda one: ops.convolve(one[None], weight, bias))(x),
        F.conv2d(x, weight, bias, padding=1)[None],
    )


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.ConvTranspose2d(64, 64, 3, padding=1),
    ],
)
def test_other_convolutions_are_not_usual(layer: nn.Module) -> None:
    assert not ops.is_usual_convolution(layer)
    assert ops.is_usual_convolution(nn.Conv2d(64, 64, 3, padding=1))


def test_what_does_not_fit() -> None:
    packed = pack_kernel(torch.randn(32, 16, 3, 3))
    x = torch.randn(1, 5, 5, 16)
    with pytest.raises(ValueError, match=r"x is \(1, 5, 5, 8\)"):
        convolve_into(torch.empty(1, 5, 5, 32), x[..., :8], packed)
    with pytest.raises(ValueError, match=r"out is \(1, 5, 5, 16\)"):
        convolve_into(torch.empty(1, 5, 5, 16), x, packed)
    with pytest.raises(ValueError, match=r"bias is \(16,\)"):
        convolve_into(torch.empty(1, 5, 5, 32), x, packed, torch.zeros(16))
    with pytest.raises(ValueError, match="contiguous torch.float32"):
        convolve_into(torch.empty(1, 5, 5, 32), x.double(), packed)
    with pytest.raises(ValueError, match="must be"):
        pack_kernel(torch.randn(32, 16, 1, 1))
    with pytest.raises(ValueError, match="multiples of 16"):
        pack_kernel(torch.randn(32, 15, 3, 3))
    with pytest.raises(ValueError, match="both must be"):
        kernel_gradient(x, torch.randn(1, 5, 4, 32))
    assert not kernel_gradient(x[:0], torch.empty(0, 5, 5, 32)).any()
