"""Linear layers of the backbone, and two of them with a GELU between: on a CPU by its own products, in float32.

There, an MLP goes through its layers in pieces of rows that stay in the processor's cache, in both directions, so that
of its hidden map only GELU's input is ever whole, and that in training alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .attention import choose_implementation, without_autocast
from .cpu.choice import why_not
from .cpu.linear import (
    add_weight_gradient,
    can_pack,
    gelu_into,
    linear_into,
    multiply_by_gelu_derivative,
    pack_weight,
)
from .plain import is_differentiated_again, is_ordinary, is_transformed
from .recompute import recomputed

# Floats of the hidden map that an MLP works on together: they fit into a processor's last-level cache.
PIECE_FLOATS = 1 << 20
# With fewer, packing a weight takes longer than the faster product saves.
FEWEST_ROWS = 256


def has_packed_linear(weight: Tensor) -> bool:
    """Whether the CPU's own product takes that weight, and is known to be the fastest here."""
    return (
        is_ordinary(weight)
        and can_pack(weight)
        and why_not(weight.dtype) is None
        and choose_implementation("cpu", training=False) == "cpu"
    )


def linear(
    x: Float[Tensor, "*shape C"], weight: Float[Tensor, "D C"], bias: Float[Tensor, " D"] | None = None
) -> Float[Tensor, "*shape D"]:
    """`torch.nn.functional.linear`, with gradients."""
    if not _takes(x, (weight, bias)):
        return F.linear(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias) if _trains(x, weight, bias) else _linear(x, weight, bias)
    return out


def mlp(
    x: Float[Tensor, "*shape C"],
    weight1: Float[Tensor, "hidden C"],
    bias1: Float[Tensor, " hidden"] | None,
    weight2: Float[Tensor, "D hidden"],
    bias2: Float[Tensor, " D"] | None,
) -> Float[Tensor, "*shape D"]:
    """linear(gelu(linear(x))), with gradients. Of what lies between, training stores GELU's input only."""
    if _takes(x, (weight1, bias1), (weight2, bias2)):
        arguments = (x, weight1, bias1, weight2, bias2)
        out: Tensor = _Mlp.apply(*arguments)[0] if _trains(*arguments) else _mlp(*arguments)
        return out
    return gelu_then(F.linear(x, weight1, bias1), lambda activated: F.linear(activated, weight2, bias2))


def gelu_then(hidden: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """`layer` of GELU of a map, which training does not store: the backward pass computes it once more."""
    activated = F.gelu(hidden)
    with recomputed(activated, F.gelu, hidden):
        return layer(activated)


def _takes(x: Tensor, *layers: tuple[Tensor, Tensor | None]) -> bool:
    """Whether x goes through layers of those weights and biases by the CPU's own products.

    Compilers, exporters, `torch.func`, forward-mode differentiation, dispatch modes and tensors of other classes
    (quantised, distributed, fake ones) see PyTorch's operators; autocast rounds their arguments. PyTorch also says what
    is wrong with sizes that do not fit.
    """
    if torch.compiler.is_compiling() or is_transformed() or not is_ordinary(x) or x.ndim == 0:
        return False
    width = x.shape[-1]
    if (
        x.dtype != torch.float32
        or x.numel() < FEWEST_ROWS * width
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack()
    ):
        return False
    for weight, bias in layers:
        if weight.dtype != x.dtype or not has_packed_linear(weight) or weight.shape[1] != width:
            return False
        width = weight.shape[0]
        if bias is not None and not (is_ordinary(bias) and bias.dtype == x.dtype and bias.shape == (width,)):
            return False
    return True


def _trains(*arguments: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in arguments)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `linear` gives, without gradients."""
    out = x.new_empty(*x.shape[:-1], len(weight))
    return linear_into(out, x.contiguous(), pack_weight(weight, transposed=True), _contiguous(bias))


def _mlp(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    hidden: Tensor | None = None,
) -> Tensor:
    """What `mlp` gives, without gradients. GELU's input is written into `hidden`, if given."""
    out = x.new_empty(*x.shape[:-1], len(weight2))
    rows, results = x.contiguous().flatten(0, -2), out.flatten(0, -2)
    panels1, panels2 = pack_weight(weight1, transposed=True), pack_weight(weight2, transposed=True)
    bias1, bias2 = _contiguous(bias1), _contiguous(bias2)
    pieces = _pieces(len(rows), len(weight1))
    space = x.new_empty(pieces[-1].stop - pieces[-1].start, len(weight1))
    for piece in pieces:
        activated = space[: piece.stop - piece.start]
        if hidden is None:
            linear_into(activated, rows[piece], panels1, bias1, gelu=True)
        else:
            gelu_into(activated, linear_into(hidden[piece], rows[piece], panels1, bias1))
        linear_into(results[piece], activated, panels2, bias2)
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        wants_x, wants_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if wants_weight else None, weight if wants_x else None)
        return _linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_weight = grad_bias = None
        with without_autocast("cpu"):
            if is_differentiated_again(grad):
                grad_x = grad @ weight if wants_x else None
                grad_weight = rows.t() @ x.flatten(0, -2) if wants_weight else None
                return grad_x, grad_weight, rows.sum(0) if wants_bias else None
            rows = rows.contiguous()
            if wants_x:
                grad_x = grad.new_empty(*grad.shape[:-1], weight.shape[1])
                linear_into(grad_x.flatten(0, -2), rows, pack_weight(weight, transposed=False))
            if wants_weight:
                sums = _Sums(rows)
                sums.add_product("weight", "bias" if wants_bias else None, rows, x.flatten(0, -2).contiguous())
                grad_weight, grad_bias = sums.get("weight"), sums.get("bias")
            elif wants_bias:
                grad_bias = rows.sum(0)
            return grad_x, grad_weight, grad_bias


class _Mlp(torch.autograd.Function):
    """Its second result, GELU's input, is for second derivatives: what the backward pass takes must be in the graph."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor | None, weight2: Tensor, bias2: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        wants_x, wants_weight1, wants_bias1, *_ = ctx.needs_input_grad
        ctx.set_materialize_grads(False)
        hidden = x.new_empty(*x.shape[:-1], len(weight1))
        ctx.save_for_backward(
            x if wants_weight1 else None,
            hidden,
            weight1 if wants_x else None,
            weight2 if wants_x or wants_weight1 or wants_bias1 else None,
        )
        return _mlp(x, weight1, bias1, weight2, bias2, hidden.flatten(0, -2)), hidden

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_hidden: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # asked for once: activation checkpointing gives them once
        if grad is None or grad_hidden is not None or is_differentiated_again(grad):
            with without_autocast("cpu"):
                return _mlp_gradients(grad, grad_hidden, saved, ctx.needs_input_grad)
        x, hidden, weight1, weight2 = saved
        wants_x, _, wants_bias1, wants_weight2, wants_bias2 = ctx.needs_input_grad
        shape, width = grad.shape[:-1], hidden.shape[-1]
        rows, hidden = None if x is None else x.flatten(0, -2).contiguous(), hidden.flatten(0, -2)
        grad = grad.contiguous().flatten(0, -2)
        panels1 = pack_weight(weight1, transposed=False) if wants_x else None
        panels2 = None if weight2 is None else pack_weight(weight2, transposed=False)
        grad_x = grad.new_empty(len(grad), len(panels1)) if panels1 is not None else None
        pieces = _pieces(len(grad), width)
        space = grad.new_empty(2, pieces[-1].stop - pieces[-1].start, width)
        sums = _Sums(grad)
        with without_autocast("cpu"):
            for piece in pieces:
                out_grad, before = grad[piece], hidden[piece]
                hidden_grad, activated = space[:, : len(out_grad)]
                if wants_weight2:
                    gelu_into(activated, before)
                    sums.add_product("weight2", "bias2" if wants_bias2 else None, out_grad, activated)
                elif wants_bias2:
                    sums.add_rows("bias2", out_grad)
                if panels2 is None:
                    continue
                multiply_by_gelu_derivative(linear_into(hidden_grad, out_grad, panels2), before)
                if rows is not None:
                    sums.add_product("weight1", "bias1" if wants_bias1 else None, hidden_grad, rows[piece])
                elif wants_bias1:
                    sums.add_rows("bias1", hidden_grad)
                if grad_x is not None and panels1 is not None:
                    linear_into(grad_x[piece], hidden_grad, panels1)
        grad_x = None if grad_x is None else grad_x.unflatten(0, shape)
        return grad_x, sums.get("weight1"), sums.get("bias1"), sums.get("weight2"), sums.get("bias2")


def _mlp_gradients(
    grad: Tensor | None,
    grad_hidden: Tensor | None,
    saved: tuple[Tensor | None, ...],
    wanted: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """What `_Mlp` gives backwards, by operators that autograd knows."""
    x, hidden, weight1, weight2 = saved
    wants_x, wants_weight1, wants_bias1, wants_weight2, wants_bias2 = wanted
    assert hidden is not None
    grads: list[Tensor | None] = [None] * 5
    if grad is not None:
        rows = grad.reshape(-1, grad.shape[-1])
        grads[3] = rows.t() @ F.gelu(hidden).flatten(0, -2) if wants_weight2 else None
        grads[4] = rows.sum(0) if wants_bias2 else None
        if weight2 is not None:
            through = torch.ops.aten.gelu_backward(grad @ weight2, hidden)
            grad_hidden = through if grad_hidden is None else through + grad_hidden
    if grad_hidden is not None:
        rows = grad_hidden.reshape(-1, hidden.shape[-1])
        grads[0] = grad_hidden @ weight1 if wants_x and weight1 is not None else None
        grads[1] = rows.t() @ x.flatten(0, -2) if wants_weight1 and x is not None else None
        grads[2] = rows.sum(0) if wants_bias1 else None
    return tuple(grads)


class _Sums(dict[str, Tensor]):
    """Gradients of parameters, summed up piece by piece.

    Args:
        like: a tensor of their type.
    """

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self._like = like

    def add_rows(self, bias: str, grad: Tensor) -> None:
        self[bias] = self[bias].add_(grad.sum(0)) if bias in self else grad.sum(0)

    def add_product(self, weight: str, bias: str | None, grad: Tensor, x: Tensor) -> None:
        if weight not in self:
            self[weight] = self._like.new_zeros(grad.shape[1], x.shape[1])
            if bias is not None:
                self[bias] = self._like.new_zeros(grad.shape[1])
        add_weight_gradient(self[weight], None if bias is None else self[bias], grad, x)


def _pieces(rows: int, width: int) -> list[slice]:
    """Pieces of nearly equal length of some rows, none longer than the last."""
    count = -(-rows * width // PIECE_FLOATS)
    bounds = [rows * i // count for i in range(count + 1)]
    return [slice(first, stop) for first, stop in itertools.pairwise(bounds)]


def _contiguous(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.contiguous()
