"""Linear layers in their fastest form: weights packed once, and what follows taken into the product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..ops import has_packed_linear, is_transformed, linear_into, pack_weight, panel_layout, replaceable

# Rows that weights are packed for. Other numbers work as well, but none at all does not for few rows.
_PACKED_ROWS = 256


class OptimizeError(ValueError):
    """What `optimize_for_inference` cannot do. The message names it and says the fix."""


class Fixed(nn.Module):
    """A module that can be neither moved nor cast: what it holds was made for a device and a dtype.

    Attributes:
        example: an empty tensor of those.
        layout: what the numbers in its panels go by, if it has any; see `panel_layout`.
    """

    example: Tensor
    layout: str | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        moved = fn(self.example)
        if (moved.device, moved.dtype) != (self.example.device, self.example.dtype):
            raise OptimizeError(
                f"an optimised model cannot go from {self.example.device} and {self.example.dtype} to {moved.device} "
                f"and {moved.dtype}: optimise the model that it was made from again, there"
            )
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.layout is not None and self.layout != panel_layout():
            raise OptimizeError(
                "this optimised model was saved on another kind of processor, or by another version: save the model "
                "that it was made from, and optimise it here"
            )

    def in_its_dtype(self, x: Tensor) -> Tensor:
        """Autocast may have rounded in layers before this one, and then this one's weights are what they are."""
        dtype = self.example.dtype
        if x.dtype != dtype and not torch.is_autocast_enabled("cpu"):
            raise OptimizeError(
                f"the optimised model got {x.dtype} and takes {dtype}: cast it, or make another by "
                f"optimize_for_inference(model, {x.dtype})"
            )
        return x.to(dtype)


@replaceable
class FusedLinear(Fixed):
    """A linear layer, then GELU or a residual sum: in one product where this package or oneDNN has it."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, activation: Literal["none", "gelu"] = "none", *, pack: bool = True
    ) -> None:
        super().__init__()
        # Without their gradients, and no parameters.
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        self.out_features, self.in_features = weight.shape
        self.form: Literal["panels", "onednn", "plain"] = "plain"
        if pack and has_packed_linear(weight):
            self.form, weight = "panels", pack_weight(weight, transposed=True)
            self.layout = panel_layout()
            self.sums_from = None if bias is None else bias.float().contiguous()
        elif pack and can_pack(weight):
            # Plain attributes: packed weights are opaque to state dicts and casts.
            self.form, weight = "onednn", _packed(weight)
        self.weight, self.bias, self.activation = weight, bias, activation
        self.example = torch.empty(0, dtype=weight.dtype, device=weight.device)

    def __getstate__(self) -> dict[str, Any]:
        # What oneDNN has packed can be neither copied nor saved.
        return {**super().__getstate__(), **({"weight": self.weight.to_dense()} if self.form == "onednn" else {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.form == "onednn":
            self.weight = _packed(self.weight)

    @classmethod
    def of(cls, layer: nn.Linear, activation: Literal["none", "gelu"] = "none", *, pack: bool = True) -> Self:
        """From a linear layer."""
        return cls(layer.weight, layer.bias, activation, pack=pack)

    def forward(
        self, x: Float[Tensor, "*shape C"], residual: Float[Tensor, "*shape D"] | None = None
    ) -> Float[Tensor, "*shape D"]:
        """The residual is for layers without an activation."""
        if self.form != "plain":
            refuse_derivatives(x, residual)
            x, residual = self.in_its_dtype(x), None if residual is None else self.in_its_dtype(residual)
            return self._by_panels(x, residual) if self.form == "panels" else self._by_onednn(x, residual)
        out = F.linear(x, self.weight, self.bias)
        if self.activation == "gelu":
            out = F.gelu(out)
        return out if residual is None else residual + out

    def _by_panels(self, x: Tensor, residual: Tensor | None) -> Tensor:
        out = x.new_empty(*x.shape[:-1], self.out_features)
        residual = None if residual is None else residual.contiguous()
        return linear_into(out, x.contiguous(), self.weight, self.sums_from, residual, gelu=self.activation == "gelu")

    def _by_onednn(self, x: Tensor, residual: Tensor | None) -> Tensor:
        if not x.numel():  # of nothing it has no products
            return x.new_empty(*x.shape[:-1], self.out_features)
        product = torch.ops.mkldnn._linear_pointwise
        # Of the sum PyTorch does not know the shape, which a compiler asks for.
        if residual is not None and not torch.compiler.is_compiling():
            out: Tensor = product.binary(x, residual, self.weight, self.bias, "add")
            return out
        out = product(x, self.weight, self.bias, self.activation, [], "none")
        return out if residual is None else out + residual


def _packed(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_ROWS)
    return packed


def refuse_derivatives(*maps: Tensor | None) -> None:
    """Packed products know none, and would leave them out in silence."""
    if is_transformed() or (torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in maps)):
        raise OptimizeError(
            "an optimised model has no derivatives, and takes neither torch.func nor torch.jit.trace: use the model "
            "that it was made from"
        )


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN has products of that dtype here."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if weight.dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return weight.dtype == torch.float32
