"""Which parts of a model are as this package made them, and another form put in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

from torch import nn

from ..ops import form_of, is_plain
from .attention import WindowAttention, WindowAttentionV2
from .layers import DropPath, Mlp, PatchEmbed
from .swin import SwinBlock

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_PACKAGE = __name__.partition(".")[0]


def is_whole_block(block: nn.Module) -> TypeGuard[SwinBlock]:
    """Whether a block is all that its parameters and norms say: each of its other parts is as this package made it."""
    if not (is_plain(block, SwinBlock) and is_plain(block.drop_path, DropPath) and is_plain(block.mlp, Mlp)):
        return False
    attn: nn.Module = block.attn
    if not is_plain(attn, WindowAttention) and not is_plain(attn, WindowAttentionV2):
        return False
    linear = all(is_plain(layer, nn.Linear) for layer in (attn.qkv, attn.proj, block.mlp.fc1, block.mlp.fc2))
    # V2's biases are its own.
    return linear and (block.norm_first or attn.qkv.bias is None)


def is_whole_embedding(embed: nn.Module) -> TypeGuard[PatchEmbed]:
    """Whether a patch embedding is all that its parameters and norm say."""
    if not (is_plain(embed, PatchEmbed) and is_plain(embed.proj, nn.Conv2d)):
        return False
    return form_of(embed.proj) == (embed.patch_size, embed.patch_size, (0, 0), (1, 1), 1, "zeros")


def replace_modules(model: nn.Module, is_wanted: Callable[[nn.Module], bool], make: Callable[[Any], nn.Module]) -> None:
    """Puts `make(module)` in the place of every module that is wanted, where what holds it is known to call it."""
    for parent in list(model.modules()):
        if any(kind in _CONTAINERS or kind.__module__.startswith(f"{_PACKAGE}.") for kind in type(parent).__mro__):
            for name, child in list(parent.named_children()):
                if is_wanted(child):
                    setattr(parent, name, make(child))
