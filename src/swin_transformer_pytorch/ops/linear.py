"""Linear layers of the backbone, and two of them with a GELU between: on a CPU by its own products, in float32.

There, an MLP goes through its layers in pieces of rows that stay in the processor's cache, in both directions, so that
of its hidden map only GELU's input is ever whole, and that in training alone.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .attention import choose_implementation
from .cpu.linear import MULTIPLE, gelu_into, linear_into, multiply_by_gelu_derivative, pack_weight, why_not
from .recompute import recomputed

# Of the hidden map of rows that go through an MLP together, which then fits into a processor's last-level cache.
PIECE_FLOATS = 1 << 20
# With fewer, packing a weight takes longer than the faster product saves.
FEWEST_ROWS = 256


def has_packed_linear(weight: Tensor) -> bool:
    """Whether the CPU's own product takes that weight, and is known to be the fastest here."""
    return (
        type(weight) in (Tensor, nn.Parameter)
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.ndim == 2
        and all(size % MULTIPLE == 0 for size in weight.shape)
        and why_not() is None
        and choose_implementation("cpu", training=False) == "cpu"
    )


def linear(
    x: Float[Tensor, "*shape C"], weight: Float[Tensor, "D C"], bias: Float[Tensor, " D"] | None = None
) -> Float[Tensor, "*shape D"]:
    """`torch.nn.functional.linear`, with gradients, but without second ones."""
    if not _takes(x, (weight, bias)):
        return F.linear(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias)
    return out


def mlp(
    x: Float[Tensor, "*shape C"],
    weight1: Float[Tensor, "D C"],
    bias1: Float[Tensor, " D"] | None,
    weight2: Float[Tensor, "C D"],
    bias2: Float[Tensor, " C"] | None,
) -> Float[Tensor, "*shape C"]:
    """linear(gelu(linear(x))), with gradients, but without second ones. Training stores GELU's input only."""
    if _takes(x, (weight1, bias1), (weight2, bias2)):
        arguments = (x, weight1, bias1, weight2, bias2)
        training = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in arguments)
        out: Tensor = _Mlp.apply(*arguments) if training else _mlp(*arguments)
        return out
    hidden = F.linear(x, weight1, bias1)
    activated = F.gelu(hidden)
    before = hidden.detach()
    with recomputed(activated, lambda: F.gelu(before)):
        return F.linear(activated, weight2, bias2)


def _takes(x: Tensor, *layers: tuple[Tensor, Tensor | None]) -> bool:
    """Whether x goes through layers of those weights and biases by the CPU's own products.

    Compilers, exporters, `torch.func` and tensors of other classes (quantised, distributed, fake ones) see PyTorch's
    operators; autocast rounds their arguments. PyTorch also says what is wrong with sizes that do not fit.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) not in (Tensor, nn.Parameter):
        return False
    width = x.shape[-1]
    if x.dtype != torch.float32 or x.numel() < FEWEST_ROWS * width or torch.is_autocast_enabled("cpu"):
        return False
    if torch._C._are_functorch_transforms_active():  # type: ignore[attr-defined]  # the stub lacks it
        return False
    for weight, bias in layers:
        fits = weight.ndim == 2 and weight.shape[1] == width and x.device == weight.device
        if bias is not None:
            fits = fits and (bias.shape, bias.dtype) == (weight.shape[:1], weight.dtype)
        if not (fits and has_packed_linear(weight)):
            return False
        width = weight.shape[0]
    return True


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        return linear_into(
            x.new_empty(*x.shape[:-1], len(weight)), x, pack_weight(weight, transposed=True), _contiguous(bias)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        rows = grad.flatten(0, -2)
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        grad_x = None
        if wants_x:
            grad_x = linear_into(torch.empty_like(x), grad, pack_weight(weight, transposed=False))
        grad_weight = rows.t() @ x.flatten(0, -2) if wants_weight else None
        return grad_x, grad_weight, rows.sum(0) if wants_bias else None


def _mlp(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    hidden: Tensor | None = None,
) -> Tensor:
    """What `mlp` gives, without gradients. GELU's input is written into `hidden`, if given."""
    x = x.contiguous()
    rows, out = x.flatten(0, -2), torch.empty_like(x)
    panels1, panels2 = pack_weight(weight1, transposed=True), pack_weight(weight2, transposed=True)
    bias1, bias2 = _contiguous(bias1), _contiguous(bias2)
    pieces = _pieces(len(rows), len(weight1))
    space = x.new_empty(pieces[-1].stop - pieces[-1].start, len(weight1))
    for piece in pieces:
        some, result = rows[piece], out.flatten(0, -2)[piece]
        activated = space[: len(some)]
        if hidden is None:
            linear_into(activated, some, panels1, bias1, gelu=True)
        else:
            gelu_into(activated, linear_into(hidden[piece], some, panels1, bias1))
        linear_into(result, activated, panels2, bias2)
    return out


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor | None, weight2: Tensor, bias2: Tensor | None
    ) -> Tensor:
        x = x.contiguous()
        hidden = x.new_empty(x.numel() // x.shape[-1], len(weight1))
        ctx.save_for_backward(x, hidden, weight1, weight2)
        return _mlp(x, weight1, bias1, weight2, bias2, hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, weight1, weight2 = ctx.saved_tensors
        wants_x, wants_weight1, wants_bias1, wants_weight2, wants_bias2 = ctx.needs_input_grad
        grad, x_rows = grad.contiguous().flatten(0, -2), x.flatten(0, -2)
        panels1, panels2 = (pack_weight(weight, transposed=False) for weight in (weight1, weight2))
        grad_x = torch.empty_like(x) if wants_x else None
        sums = _Sums()
        pieces = _pieces(len(grad), len(weight1))
        space = x.new_empty(2, pieces[-1].stop - pieces[-1].start, len(weight1))
        for piece in pieces:
            out_grad, before = grad[piece], hidden[piece]
            hidden_grad, activated = space[:, : len(out_grad)]
            if wants_weight2:
                sums.add_product("weight2", out_grad, gelu_into(activated, before))
            multiply_by_gelu_derivative(linear_into(hidden_grad, out_grad, panels2), before)
            if wants_weight1:
                sums.add_product("weight1", hidden_grad, x_rows[piece])
            if wants_bias1:
                sums.add("bias1", hidden_grad.sum(0))
            if grad_x is not None:
                linear_into(grad_x.flatten(0, -2)[piece], hidden_grad, panels1)
        bias2 = grad.sum(0) if wants_bias2 else None
        return grad_x, sums.get("weight1"), sums.get("bias1"), sums.get("weight2"), bias2


class _Sums(dict[str, Tensor]):
    """Gradients of parameters, summed up piece by piece."""

    def add(self, name: str, value: Tensor) -> None:
        self[name] = self[name].add_(value) if name in self else value

    def add_product(self, name: str, grad: Tensor, x: Tensor) -> None:
        self[name] = self[name].addmm_(grad.t(), x) if name in self else grad.t() @ x


def _pieces(rows: int, width: int) -> list[slice]:
    """Pieces of nearly equal length of some rows."""
    count = -(-rows * width // PIECE_FLOATS)
    bounds = [rows * i // count for i in range(count + 1)]
    return [slice(first, stop) for first, stop in itertools.pairwise(bounds)]


def _contiguous(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.contiguous()
