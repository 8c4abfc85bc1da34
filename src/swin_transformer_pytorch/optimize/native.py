"""Blocks that go through the library in one call: where nothing but what this package made is at work in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..ops import Block, Layer, Norm, choose_implementation, is_ordinary, is_plain, is_transformed
from ..sizes import Size
from .linear import FusedLinear, refuse_derivatives
from .norm import FusedNorm

if TYPE_CHECKING:
    from .swin import FastBlock


def takes_map(x: Tensor, head_dim: int = 32) -> bool:
    """Whether a map may go through the library: compilers, transforms and dispatch modes see PyTorch's operators.

    Args:
        head_dim: of attention, where there is any.
    """
    if torch.compiler.is_compiling() or is_transformed() or torch._C._len_torch_dispatch_stack():
        return False
    if not is_ordinary(x) or choose_implementation("cpu", training=False, dtype=x.dtype, head_dim=head_dim) != "cpu":
        return False
    refuse_derivatives(x)
    return True


def native_blocks(blocks: Iterable[FastBlock], dtype: torch.dtype, windows: Iterable[Size]) -> list[Block] | None:
    """What the library needs of the blocks for maps of that type; None if one of them is not as it was made."""
    natives = [_native(block, dtype, window) for block, window in zip(blocks, windows, strict=True)]
    return None if None in natives else [native for native in natives if native is not None]


def _native(block: FastBlock, dtype: torch.dtype, window: Size) -> Block | None:
    bias = block.padded_bias
    if bias is None or block.example.dtype != dtype or window != block.window_size:
        return None
    layers = [native_layer(layer) for layer in (block.qkv, block.proj, block.fc1, block.fc2)]
    norms = [native_norm(norm) for norm in (block.norm1, block.norm2)]
    if None in layers or None in norms:
        return None
    qkv, proj, fc1, fc2 = (layer for layer in layers if layer is not None)
    norm1, norm2 = (norm for norm in norms if norm is not None)
    return Block(
        norm_first=block.norm_first,
        norm1=norm1,
        norm2=norm2,
        qkv=qkv,
        proj=proj,
        fc1=fc1,
        fc2=fc2,
        bias=bias,
        logit_scale=block.logit_scale,
        pad_token=block.qkv.bias,
    )


def native_layer(layer: torch.nn.Module) -> Layer | None:
    """A linear layer as the library takes it, if it is as it was made."""
    if not is_plain(layer, FusedLinear) or layer.form != "panels":
        return None
    return Layer(panels=layer.weight, bias=layer.sums_from)


def native_norm(norm: torch.nn.Module) -> Norm | None:
    """Likewise of a norm."""
    return Norm(weight=norm.weight, bias=norm.bias, eps=norm.eps) if is_plain(norm, FusedNorm) else None
