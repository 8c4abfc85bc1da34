"""The window-attention op against its contract: brute force per pixel, gradients, layouts and memory."""

import inspect
import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from swin_transformer_pytorch.ops import force_implementation, window_attention

Pair = tuple[int, int]
PLAIN = ("reference", "sdpa", "matmul")  # of PyTorch's own operators, for any dtype and head
OTHERS = PLAIN[1:]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call of the op. `layout` is the order in which the map's four axes lie in memory."""

    batch: int
    map_size: Pair
    window_size: Pair
    shift_size: Pair
    heads: int
    head_dim: int
    pad_token: bool
    logit_scale: bool
    layout: tuple[int, ...]
    seed: int

    def tensors(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Leaves with gradients: qkv, bias, and where the case has them pad_token and logit_scale."""
        generator = torch.Generator().manual_seed(self.seed)
        channels = 3 * self.heads * self.head_dim
        tokens = self.window_size[0] * self.window_size[1]

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        qkv = normal(self.batch, *self.map_size, channels)
        qkv = qkv.permute(self.layout).contiguous().permute([self.layout.index(axis) for axis in range(4)])
        tensors = {"qkv": qkv, "bias": normal(self.heads, tokens, tokens)}
        if self.pad_token:
            tensors["pad_token"] = normal(channels)
        if self.logit_scale:
            tensors["logit_scale"] = normal(self.heads).exp() * 5
        return {name: tensor.requires_grad_() for name, tensor in tensors.items()}

    def run(self, implementation: str, tensors: dict[str, Tensor]) -> Tensor:
        with force_implementation(implementation):
            return window_attention(**tensors, window_size=self.window_size, shift_size=self.shift_size)


@st.composite
def cases(draw: st.DrawFn, max_side: int = 9, max_window: int = 4) -> Case:
    window = draw(st.tuples(st.integers(1, max_window), st.integers(1, max_window)))
    return Case(
        batch=draw(st.integers(1, 3)),
        map_size=draw(st.tuples(st.integers(1, max_side), st.integers(1, max_side))),
        window_size=window,
        shift_size=(draw(st.integers(0, window[0] - 1)), draw(st.integers(0, window[1] - 1))),
        heads=draw(st.integers(1, 3)),
        head_dim=draw(st.integers(1, 5)),
        pad_token=draw(st.booleans()),
        logit_scale=draw(st.booleans()),
        layout=tuple(draw(st.permutations(range(4)))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


EXAMPLE = Case(
    batch=2,
    map_size=(5, 8),
    window_size=(3, 4),
    shift_size=(1, 2),
    heads=2,
    head_dim=3,
    pad_token=True,
    logit_scale=True,
    layout=(0, 1, 2, 3),
    seed=0,
)


def brute_force(case: Case, tensors: dict[str, Tensor]) -> np.ndarray:
    """Each pixel of the map on its own, from the contract's words."""
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    height, width = case.map_size
    window_h, window_w = case.window_size
    down, right = case.shift_size
    padded_h = (height + window_h - 1) // window_h * window_h
    padded_w = (width + window_w - 1) // window_w * window_w
    filler = arrays.get("pad_token", np.zeros(3 * case.heads * case.head_dim))

    def token(b: int, y: int, x: int) -> np.ndarray:
        inside = y < height and x < width
        return (arrays["qkv"][b, y, x] if inside else filler).reshape(3, case.heads, case.head_dim)

    def unit(vector: np.ndarray) -> np.ndarray:
        length = np.sqrt((vector**2).sum())
        return vector / max(length, 1e-12)

    out = np.empty((case.batch, height, width, case.heads * case.head_dim))
    for b, y, x, head in itertools.product(range(case.batch), range(height), range(width), range(case.heads)):
        shifted_y, shifted_x = (y - down) % padded_h, (x - right) % padded_w
        top, left = shifted_y - shifted_y % window_h, shifted_x - shifted_x % window_w
        query_index = (shifted_y - top) * window_w + (shifted_x - left)
        query = token(b, y, x)[0, head]
        scores, values = [], []
        for key_index, (dy, dx) in enumerate(itertools.product(range(window_h), range(window_w))):
            key_y, key_x = (top + dy + down) % padded_h, (left + dx + right) % padded_w
            _, key, value = token(b, key_y, key_x)[:, head]
            if case.logit_scale:
                score = unit(query) @ unit(key) * arrays["logit_scale"][head]
            else:
                score = query @ key / np.sqrt(case.head_dim)
            score += arrays["bias"][head, query_index, key_index]
            # A window holds at most one jump of the old coordinates on each axis: where the shift wrapped around.
            if (key_y - y, key_x - x) != (top + dy - shifted_y, left + dx - shifted_x):
                score -= 100.0
            scores.append(score)
            values.append(value)
        weights = np.exp(np.array(scores) - max(scores))
        channels = slice(head * case.head_dim, (head + 1) * case.head_dim)
        out[b, y, x, channels] = weights @ np.array(values) / weights.sum()
    return out


def gradients(case: Case, implementation: str, tensors: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    out = case.run(implementation, tensors)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(case.seed), dtype=torch.float64)
    grads = torch.autograd.grad(out, list(tensors.values()), upstream.to(out.dtype), allow_unused=True)
    zero_if_unused = [torch.zeros_like(t) if g is None else g for t, g in zip(tensors.values(), grads, strict=True)]
    return out.detach(), dict(zip(tensors, zero_if_unused, strict=True))


@pytest.mark.parametrize("implementation", PLAIN)
@settings(max_examples=40, deadline=None)
@given(case=cases(max_side=7, max_window=3))
def test_equals_brute_force(implementation: str, case: Case) -> None:
    tensors = case.tensors()

    out = case.run(implementation, tensors)

    assert out.shape == (case.batch, *case.map_size, case.heads * case.head_dim)
    np.testing.assert_allclose(out.detach().numpy(), brute_force(case, tensors), rtol=0, atol=1e-11)


@pytest.mark.parametrize("implementation", OTHERS)
@settings(max_examples=120, deadline=None)
@given(case=cases(max_side=17, max_window=7))
def test_forward_and_every_gradient_equal_the_reference(implementation: str, case: Case) -> None:
    tensors = case.tensors()

    expected, expected_grads = gradients(case, "reference", tensors)
    got, got_grads = gradients(case, implementation, tensors)

    torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)
    for name, grad in expected_grads.items():
        torch.testing.assert_close(got_grads[name], grad, rtol=1e-9, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("implementation", OTHERS)
@settings(max_examples=20, deadline=None)
@given(case=cases(max_side=17, max_window=7))
def test_inference_equals_the_reference(implementation: str, case: Case) -> None:
    tensors = {name: tensor.detach() for name, tensor in case.tensors(torch.float32).items()}

    torch.testing.assert_close(case.run(implementation, tensors), case.run("reference", tensors), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", PLAIN)
@pytest.mark.parametrize("logit_scale", [False, True])
def test_gradients_are_those_of_the_function(implementation: str, logit_scale: bool) -> None:
    case = Case(
        batch=1,
        map_size=(3, 2),
        window_size=(2, 3),
        shift_size=(1, 1),
        heads=2,
        head_dim=2,
        pad_token=True,
        logit_scale=logit_scale,
        layout=(0, 1, 2, 3),
        seed=3,
    )
    tensors = case.tensors()

    def function(*values: Tensor) -> Tensor:
        return case.run(implementation, dict(zip(tensors, values, strict=True)))

    assert torch.autograd.gradcheck(function, tuple(tensors.values()))


@pytest.mark.parametrize("implementation", PLAIN)
@settings(max_examples=20, deadline=None)
@given(case=cases())
def test_a_batch_equals_its_maps_one_by_one(implementation: str, case: Case) -> None:
    tensors = case.tensors()

    together = case.run(implementation, tensors)
    apart = [case.run(implementation, {**tensors, "qkv": qkv[None]}) for qkv in tensors["qkv"]]

    torch.testing.assert_close(together, torch.cat(apart), rtol=0, atol=1e-12)


@pytest.mark.parametrize("implementation", PLAIN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("logit_scale", [False, True])
def test_keeps_the_dtype_and_stays_close_to_float64(implementation: str, dtype: torch.dtype, logit_scale: bool) -> None:
    case = Case(**{**vars(EXAMPLE), "logit_scale": logit_scale})
    expected = case.run("reference", case.tensors())

    out = case.run(implementation, case.tensors(dtype))

    assert out.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 2e-1}[dtype]
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("implementation", PLAIN)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_where_keys_are_padding(implementation: str, dtype: torch.dtype) -> None:
    case = EXAMPLE
    tensors = case.tensors(dtype)
    dim = case.heads * case.head_dim
    # V2 pads its block's input with zeros: the key part of its padding is exactly zero, and cannot be normalised.
    bias = tensors["pad_token"].detach().clone()
    bias[dim : 2 * dim] = 0
    tensors["pad_token"] = bias.requires_grad_()
    tensors["logit_scale"] = torch.full((case.heads,), 100.0, requires_grad=True)

    out = case.run(implementation, tensors)
    out.float().sum().backward()

    assert out.isfinite().all()
    for name in ("qkv", "bias", "logit_scale"):
        assert tensors[name].grad is not None and tensors[name].grad.isfinite().all(), name
    grad = tensors["pad_token"].grad
    assert grad is not None and grad[:dim].isfinite().all() and grad[2 * dim :].isfinite().all()


class SeenMasks(TorchFunctionMode):
    """Notes the mask of every call of PyTorch's fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            mask = kwargs.get("attn_mask")
            self.shapes.append(tuple(mask.shape))
        return func(*args, **kwargs)


class SeenScores(TorchDispatchMode):
    """Adds up the elements of every tensor made whose last two axes are (N, N): biases, masks and scores."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.shape[-2:] == (self.tokens, self.tokens):
                self.elements += tensor.numel()
        return result


@pytest.mark.parametrize("training", [False, True])
def test_the_mask_given_to_sdpa_grows_with_neither_batch_nor_map(training: bool) -> None:
    for batch, map_size in ((1, (5, 8)), (6, (5, 8)), (2, (40, 40))):
        case = Case(**{**vars(EXAMPLE), "batch": batch, "map_size": map_size})
        tensors = {name: tensor.detach().requires_grad_(training) for name, tensor in case.tensors().items()}
        seen = SeenMasks()
        with seen:
            case.run("sdpa", tensors)
        assert seen.shapes and set(seen.shapes) <= {(1, case.heads, 12, 12), (case.heads, 12, 12)}


def test_no_bias_mask_or_score_grows_with_the_batch_in_inference() -> None:
    elements = []
    for batch in (1, 8):
        case = Case(**{**vars(EXAMPLE), "batch": batch})
        tensors = {name: tensor.detach() for name, tensor in case.tensors(torch.float32).items()}
        with SeenScores(tokens=12) as seen:
            case.run("sdpa", tensors)
        elements.append(seen.elements)
    assert elements[0] == elements[1] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": torch.zeros(2, 9, 9)}, "bias"),
        ({"bias": torch.zeros(4, 12, 12)}, "qkv"),
        ({"shift_size": (3, 0)}, "shift_size"),
        ({"shift_size": (0, -1)}, "shift_size"),
        ({"pad_token": torch.zeros(5)}, "pad_token"),
        ({"logit_scale": torch.zeros(3)}, "logit_scale"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change: dict[str, object], message: str) -> None:
    case = EXAMPLE
    arguments = {**case.tensors(), "window_size": case.window_size, "shift_size": case.shift_size, **change}
    unchecked = inspect.unwrap(window_attention)  # as users call it: without the tests' check of annotated shapes
    with pytest.raises(ValueError, match=message):
        unchecked(**arguments)


def test_forcing_an_unknown_implementation_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="reference"), force_implementation("magic"):
        pass
