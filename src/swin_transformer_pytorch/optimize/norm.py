"""Layer normalisation in its fastest form: in one pass over memory, and with a residual sum in it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..ops import is_plain, layer_norm_into, replaceable
from .linear import Fixed, refuse_derivatives


@replaceable
class FusedNorm(Fixed):
    """`nn.LayerNorm` over channels, then a residual sum, in one kernel: where `has_own_layer_norm`."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        # What tells a model's type and device: those of its first parameter.
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        weight = norm.weight.detach()
        self.factors = weight.float().contiguous()
        self.terms = torch.zeros_like(self.factors) if norm.bias is None else norm.bias.detach().float().contiguous()
        self.example = weight.new_empty(0)

    def forward(
        self, x: Float[Tensor, "*shape C"], residual: Float[Tensor, "*shape C"] | None = None
    ) -> Float[Tensor, "*shape C"]:
        refuse_derivatives(x, residual)
        x = self.in_its_dtype(x).contiguous()
        residual = None if residual is None else self.in_its_dtype(residual).contiguous()
        return layer_norm_into(x.new_empty(x.shape), x, self.factors, self.terms, residual, eps=self.eps)


def is_usual_norm(norm: nn.Module) -> bool:
    """Whether it normalises each token alone and does nothing else."""
    return is_plain(norm, nn.LayerNorm) or is_plain(norm, FusedNorm)


def add_normalised(
    norm: nn.Module, y: Float[Tensor, "*shape C"], x: Float[Tensor, "*shape C"]
) -> Float[Tensor, "*shape C"]:
    """x + norm(y)."""
    out: Tensor = norm(y, x) if isinstance(norm, FusedNorm) else x + norm(y)
    return out
