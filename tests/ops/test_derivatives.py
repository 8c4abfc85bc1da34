"""Every derivative that torch offers, of attention and of products: each implementation's is the reference's."""

import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from swin_transformer_pytorch.ops import available_implementations, force_implementation, linear, mlp, window_attention
from swin_transformer_pytorch.ops.triton.kernel import INTERPRETED

# `ops.linear` is the function; the module is found by its path.
products = importlib.import_module("swin_transformer_pytorch.ops.linear")

# PyTorch's own forward-mode formulas are scripts.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")

Function = Callable[..., Tensor]
HAS_CPU_KERNEL, HAS_TRITON = (name in available_implementations() for name in ("cpu", "triton"))
IMPLEMENTATIONS = [
    "reference",
    "sdpa",
    "matmul",
    pytest.param("cpu", marks=pytest.mark.skipif(not HAS_CPU_KERNEL, reason="no CPU kernel here")),
    # On a GPU, or run by test_triton_kernel.py in Triton's interpreter.
    pytest.param("triton", marks=pytest.mark.skipif(not HAS_TRITON, reason="Triton cannot run in this process")),
]
KERNELS = IMPLEMENTATIONS[3:]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call of the op on a small map; `padded` and `v2` say whether it has a pad token and a logit scale."""

    size: tuple[int, int] = (3, 5)
    window_size: tuple[int, int] = (2, 3)
    shift_size: tuple[int, int] = (1, 1)
    padded: bool = True
    v2: bool = False
    head_dim: int = 8
    seed: int = 0

    def tensors(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        """qkv, bias, and where the case has them the pad token and the scale."""
        generator = torch.Generator().manual_seed(self.seed)
        heads, tokens = 2, self.window_size[0] * self.window_size[1]
        channels = 3 * heads * self.head_dim
        shapes = [(2, *self.size, channels), (heads, tokens, tokens)]
        shapes += [(channels,)] * self.padded + [(heads,)] * self.v2
        return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]

    def function(self, implementation: str) -> Function:
        def run(qkv: Tensor, bias: Tensor, *others: Tensor) -> Tensor:
            rest = list(others)
            with force_implementation(implementation):
                return window_attention(
                    qkv,
                    bias,
                    window_size=self.window_size,
                    shift_size=self.shift_size,
                    pad_token=rest.pop(0) if self.padded else None,
                    logit_scale=rest.pop(0) if self.v2 else None,
                )

        return run


def upstream(out: Tensor) -> Tensor:
    return torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out)


def leaves(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def second_gradients(penalty: Tensor, arguments: list[Tensor]) -> list[Tensor]:
    """Zeros for what the penalty does not depend on."""
    found = torch.autograd.grad(penalty, arguments, allow_unused=True)
    return [torch.zeros_like(x) if grad is None else grad for x, grad in zip(arguments, found, strict=True)]


def penalised(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    """Gradients of a penalty on the gradients of all arguments, and of the result's gradient."""
    arguments = leaves(tensors)
    out = function(*arguments)
    grad_out = upstream(out).requires_grad_()
    grads = torch.autograd.grad(out, arguments, grad_out, create_graph=True)
    penalty = torch.stack([(grad.sin() * grad).sum() for grad in grads]).sum()
    return second_gradients(penalty, [*arguments, grad_out])


def penalised_after_constants(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    """As in a gradient penalty: the result's gradient needs none itself, and arguments come from one another."""
    arguments = leaves(tensors)
    first = arguments[0]
    mixed = [first, *(argument * (1 + first.mean()) for argument in arguments[1:])]
    (grad,) = torch.autograd.grad(function(*mixed).sum(), first, create_graph=True)
    return second_gradients(grad.square().sum(), arguments)


def batched_gradients(out: Tensor, arguments: list[Tensor], grads: Tensor) -> list[Tensor]:
    return [
        grad
        for grad in torch.autograd.grad(out, arguments, grads, is_grads_batched=True, allow_unused=True)
        if grad is not None
    ]


def batched(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    arguments = leaves(tensors)
    out = function(*arguments)
    grads = torch.stack([upstream(out), out.detach(), torch.ones_like(out)])
    return batched_gradients(out, arguments, grads)


def batched_twice(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    arguments = leaves(tensors)
    out = function(*arguments)
    (grad,) = torch.autograd.grad(out, arguments[:1], upstream(out), create_graph=True)
    grads = torch.stack([torch.ones_like(grad), grad.detach()])
    return batched_gradients(grad, arguments, grads)


def forward_mode(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(tensor, torch.cos(tensor)) for tensor in tensors]
        return [forward_ad.unpack_dual(function(*duals)).tangent]


def forward_over_reverse(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    """The forward derivative of gradients, once with the forward pass before the dual level and once inside it."""

    def tangent(grad: Tensor) -> Tensor:
        found = forward_ad.unpack_dual(grad).tangent
        return torch.zeros_like(grad) if found is None else found

    arguments = leaves(tensors)
    out = function(*arguments)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(upstream(out), torch.cos(upstream(out)))
        found = [tangent(grad) for grad in torch.autograd.grad(out, arguments, dual)]
        inner = [forward_ad.make_dual(argument, torch.cos(argument.detach())) for argument in leaves(tensors)]
        grads = torch.autograd.grad(function(*inner), inner, upstream(out))
        return found + [tangent(grad) for grad in grads]


def func_jvp(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    return list(torch.func.jvp(function, tuple(tensors), tuple(torch.cos(tensor) for tensor in tensors)))


def func_vjp(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    out, pullback = torch.func.vjp(function, *tensors)
    return list(pullback(upstream(out)))


def func_hessian_vector(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    grad = torch.func.grad(lambda *arguments: function(*arguments).sin().sum(), argnums=tuple(range(len(tensors))))
    _, tangents = torch.func.jvp(grad, tuple(tensors), tuple(torch.cos(tensor) for tensor in tensors))
    return list(tangents)


def over_maps(function: Function) -> Function:
    """Of a map or a vector alone, not of a batch."""
    return lambda x, *others: function(x[None], *others)[0]


def vmapped(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    first, *others = tensors
    shared = torch.func.vmap(over_maps(function), in_dims=(0, *[None] * len(others)))(first, *others)
    twice = [torch.stack([other, other.sin()]) for other in others]
    return [shared, torch.func.vmap(over_maps(function))(first, *twice)]


def per_sample(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    first, *others = tensors
    every = tuple(range(len(tensors)))
    grad = torch.func.grad(lambda *arguments: over_maps(function)(*arguments).sin().sum(), argnums=every)
    return list(torch.func.vmap(grad, in_dims=(0, *[None] * len(others)))(first, *others))


def jacobians(function: Function, tensors: list[Tensor]) -> list[Tensor]:
    """Of one number for each channel, to keep them small."""

    def sums(bias: Tensor) -> Tensor:
        out = function(tensors[0], bias, *tensors[2:])
        return out.flatten(0, -2).sum(0)

    return [torch.func.jacrev(sums)(tensors[1]), torch.func.jacfwd(sums)(tensors[1])]


DERIVATIVES = [
    penalised,
    penalised_after_constants,
    batched,
    batched_twice,
    forward_mode,
    forward_over_reverse,
    func_jvp,
    func_vjp,
    func_hessian_vector,
    vmapped,
    per_sample,
    jacobians,
]


def assert_near(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        assert (one.double() - other).abs().max() <= tolerance * (1 + other.abs().max())


@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_attention(implementation: str, derivative: Callable[[Function, list[Tensor]], list[Tensor]], v2: bool) -> None:
    case = Case(v2=v2)
    expected = derivative(case.function("reference"), case.tensors())
    if implementation not in ("cpu", "triton"):
        assert_near(derivative(case.function(implementation), case.tensors()), expected, 1e-9)
        return
    device = "cuda" if implementation == "triton" and not INTERPRETED else "cpu"
    got = derivative(case.function(implementation), [x.to(device) for x in case.tensors(torch.float32)])
    assert_near([grad.cpu() for grad in got], expected, 1e-4)


@pytest.mark.parametrize("implementation", ["reference", "sdpa", "matmul"])
@pytest.mark.parametrize("v2", [False, True])
def test_attention_against_finite_differences(implementation: str, v2: bool) -> None:
    case = Case(size=(2, 3), window_size=(2, 2), v2=v2, head_dim=2)
    arguments = tuple(leaves(case.tensors()))
    function = case.function(implementation)
    assert torch.autograd.gradcheck(function, arguments, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, arguments, check_batched_grad=True)


@pytest.mark.parametrize("implementation", ["matmul", *KERNELS[:1]])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_second_derivatives_of_any_geometry_and_any_frozen_part(implementation: str, data: st.DataObject) -> None:
    window = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    case = Case(
        size=data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7))),
        window_size=window,
        shift_size=(data.draw(st.integers(0, window[0] - 1)), data.draw(st.integers(0, window[1] - 1))),
        padded=data.draw(st.booleans()),
        v2=data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 2**16)),
    )
    wanted = data.draw(st.lists(st.booleans(), min_size=4, max_size=4))

    def second(implementation: str, dtype: torch.dtype) -> list[Tensor]:
        arguments = [tensor.requires_grad_(want) for tensor, want in zip(case.tensors(dtype), wanted, strict=False)]
        chosen = [argument for argument in arguments if argument.requires_grad]
        out = case.function(implementation)(*arguments)
        if not chosen:
            return [out]
        if not out.requires_grad:  # nothing that was chosen has a part in it, as a pad token where nothing is padded
            return [torch.zeros(())] * (2 * len(chosen) + 1)
        grad_out = upstream(out).requires_grad_()
        grads = torch.autograd.grad(out, chosen, grad_out, create_graph=True, allow_unused=True)
        penalty = torch.stack([grad.sin().sum() for grad in grads if grad is not None] or [out.sum()]).sum()
        found = torch.autograd.grad(penalty, [*chosen, grad_out], allow_unused=True)
        return [torch.zeros(()) if grad is None else grad for grad in (*grads, *found)]

    dtype = torch.float32 if implementation == "cpu" else torch.float64
    tolerance = 1e-3 if implementation == "cpu" else 1e-9
    for one, other in zip(second(implementation, dtype), second("reference", torch.float64), strict=True):
        # What a tensor has no part in may be zeros as well as nothing.
        assert ((one.double() - other).abs() <= tolerance * (1 + other.abs().max())).all()


def test_fused_attention_of_pytorch_refuses_second_gradients_with_the_fix() -> None:
    case = Case()
    qkv, *others = case.tensors(torch.float32)
    out = case.function("sdpa")(qkv.requires_grad_(), *others)
    assert qkv.grad is None
    with pytest.raises(RuntimeError, match=r'no second gradients .*force_implementation\("reference"\)'):
        torch.autograd.grad(out.sum(), qkv, create_graph=True)
    assert torch.autograd.grad(case.function("sdpa")(qkv, *others).sum(), qkv)[0].isfinite().all()


@pytest.fixture
def own_products(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The products of this package are taken on any processor. What is called of them from now on."""
    if not HAS_CPU_KERNEL:
        pytest.skip("no CPU kernel here")
    monkeypatch.setenv("SWIN_PRODUCTS", "own")
    calls: list[str] = []

    def note(name: str, real: Function) -> Function:
        return lambda *arguments: (calls.append(name), real(*arguments))[1]

    for name in ("_linear", "_mlp"):
        monkeypatch.setattr(products, name, note(name, getattr(products, name)))
    return calls


def product_tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 300, 32), (64, 32), (64,), (48, 64), (48,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) / shape[-1] ** 0.5 for shape in shapes]


def plain_mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    return F.linear(F.gelu(F.linear(x, weight1, bias1)), weight2, bias2)


@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("which", ["linear", "mlp"])
def test_products(
    which: str, derivative: Callable[[Function, list[Tensor]], list[Tensor]], own_products: list[str]
) -> None:
    ours, plain, count = (linear, F.linear, 3) if which == "linear" else (mlp, plain_mlp, 5)
    tensors = product_tensors()[:count]
    got = derivative(ours, [tensor.float() for tensor in tensors])
    assert_near(got, derivative(plain, tensors), 1e-4)
    if derivative in (penalised, penalised_after_constants, batched, batched_twice):
        assert own_products == [f"_{which}"]  # forward; backward is for PyTorch


@pytest.mark.parametrize("wanted", [wanted for wanted in itertools.product([False, True], repeat=5) if any(wanted)])
@pytest.mark.parametrize("strided", [False, True])
def test_second_derivatives_of_an_mlp_with_frozen_parts(
    wanted: tuple[bool, ...], strided: bool, own_products: list[str]
) -> None:
    def second(function: Function, dtype: torch.dtype) -> list[Tensor]:
        arguments = [
            tensor.to(dtype).requires_grad_(want) for tensor, want in zip(product_tensors(), wanted, strict=True)
        ]
        chosen = [argument for argument in arguments if argument.requires_grad]
        out = function(arguments[0].transpose(0, 1) if strided else arguments[0], *arguments[1:])
        grad_out = upstream(out).requires_grad_()
        grads = torch.autograd.grad(out, chosen, grad_out, create_graph=True)
        penalty = torch.stack([(grad.sin() * grad).sum() for grad in grads]).sum()
        return [*grads, *second_gradients(penalty, [*chosen, grad_out])]

    assert_near(second(mlp, torch.float32), second(plain_mlp, torch.float64), 1e-4)
    assert own_products == ["_mlp"]
