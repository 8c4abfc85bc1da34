"""Models in the fastest form for running on their device: the same answers, with all that can be done once done.

Relative position biases are computed once, and batch norms are folded into their convolutions. On a CPU, moreover,
linear layers' weights are packed for products that take GELU and residual sums in, and a large batch or map goes
through the layers in pieces that stay in the processor's cache.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .backbone.attention import WindowAttentionV2
from .backbone.layers import PatchEmbed, whole_patches
from .backbone.swin import Swin, SwinBlock, SwinStage
from .backbone.whole import is_whole_block, is_whole_embedding, replace_modules
from .heads.conv import ConvModule, fold_batch_norm
from .models.named_classes import NamedClasses
from .ops import (
    choose_window,
    has_packed_linear,
    is_plain,
    is_transformed,
    linear_into,
    pack_weight,
    panel_layout,
    window_attention,
)
from .sizes import Size

_Model = TypeVar("_Model", bound=nn.Module)
# Tokens that go through the layers together: their maps then fit into a processor's last-level cache.
_PIECE_TOKENS = 3136
# Rows that weights are packed for. Other numbers work as well, but none at all does not for few rows.
_PACKED_ROWS = 256


class OptimizeError(ValueError):
    """What `optimize_for_inference` cannot do. The message names it and says the fix."""


def optimize_for_inference(model: _Model, dtype: torch.dtype | None = None, *, compile: bool = False) -> _Model:
    """A copy of a model that is for inference alone: the same class, calls and answers, in less time and memory.

    It takes a second or less and needs no warm-up. The copy is in evaluation mode, stays on its device and in its
    dtype, and has neither gradients nor a state dict: train, move and save the model that it was made from. Layers and
    blocks that are not as this package made them (replaced, patched, parametrised, quantised, with hooks) stay as they
    are.

    Outputs differ from the model's own by rounding: in float32 by at most 1e-4 of the largest value, in bfloat16 by at
    most 5e-2 of it, so that scores and pixels at a threshold may fall to its other side.

    Args:
        model: a classifier, backbone, detector or segmenter of this package.
        dtype: of the copy's weights and maps, and of the images that it takes; None keeps the model's.
        compile: let `torch.compile` make the backbone instead of packing weights. The first call for an image size
            then takes a minute or more, and a C++ compiler on a CPU.

    Raises:
        OptimizeError: there is no Swin of this package in `model`, it is optimised already, or `dtype` is not a
            floating-point one.
    """
    modules = list(model.modules())
    if is_optimized(model):
        raise OptimizeError("the model is optimised already: give the one that it was made from")
    if not any(isinstance(module, SwinBlock) for module in modules):
        raise OptimizeError(f"{type(model).__name__} holds no Swin of this package: give a model of create_model")
    if dtype is not None and not dtype.is_floating_point:
        raise OptimizeError(f"dtype={dtype} is not possible: use torch.float32, torch.bfloat16 or torch.float16")
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    named = fast.classes if isinstance(fast, NamedClasses) else None
    with torch.no_grad():
        # The biases come from parameters that are not rounded to `dtype` yet.
        scores = {block: _Scores.of(block) for block in fast.modules() if is_whole_block(block)}
        fast = fast.to(dtype=dtype)
        replace_modules(fast, is_whole_block, lambda block: _FastBlock(block, scores[block], pack=not compile))
        replace_modules(fast, lambda module: is_plain(module, ConvModule), fold_batch_norm)
        if not compile:
            replace_modules(fast, is_whole_embedding, _FastPatchEmbed)
            replace_modules(fast, lambda module: is_plain(module, nn.Linear), FusedLinear.of)
            replace_modules(fast, lambda module: is_plain(module, SwinStage), _FastStage)
    if compile:
        for module in fast.modules():
            if isinstance(module, Swin):
                module.compile(dynamic=False)
    if isinstance(fast, NamedClasses):
        fast.classes = named  # names go with layers, and these are others
    fast.register_state_dict_pre_hook(_refuse_state_dict)
    return fast


def is_optimized(model: nn.Module) -> bool:
    """Whether `optimize_for_inference` made it."""
    return any(isinstance(module, _Fixed) for module in model.modules())


def _refuse_state_dict(*_: object) -> None:
    raise OptimizeError("an optimised model has no state dict: save the model that it was made from")


class _Fixed(nn.Module):
    """A module that can be neither moved nor cast: what it holds was made for a device and a dtype.

    Attributes:
        example: an empty tensor of those.
    """

    example: Tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        moved = fn(self.example)
        if (moved.device, moved.dtype) != (self.example.device, self.example.dtype):
            raise OptimizeError(
                f"an optimised model cannot go from {self.example.device} and {self.example.dtype} to {moved.device} "
                f"and {moved.dtype}: optimise the model that it was made from again, there"
            )
        return self


class FusedLinear(_Fixed):
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
        elif pack and _can_pack(weight):
            # Plain attributes: packed weights are opaque to state dicts and casts.
            self.form, weight = "onednn", torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_ROWS)
        self.weight, self.bias, self.activation = weight, bias, activation
        self.example = torch.empty(0, dtype=weight.dtype, device=weight.device)

    @classmethod
    def of(cls, layer: nn.Linear, activation: Literal["none", "gelu"] = "none", *, pack: bool = True) -> Self:
        """From a linear layer."""
        return cls(layer.weight, layer.bias, activation, pack=pack)

    def forward(
        self, x: Float[Tensor, "*shape C"], residual: Float[Tensor, "*shape D"] | None = None
    ) -> Float[Tensor, "*shape D"]:
        """The residual is for layers without an activation."""
        if self.form != "plain":
            _refuse_derivatives(x, residual)
            x, residual = self._in_its_dtype(x), None if residual is None else self._in_its_dtype(residual)
            return self._by_panels(x, residual) if self.form == "panels" else self._by_onednn(x, residual)
        out = F.linear(x, self.weight, self.bias)
        if self.activation == "gelu":
            out = F.gelu(out)
        return out if residual is None else residual + out

    def _in_its_dtype(self, x: Tensor) -> Tensor:
        """Autocast may have rounded in layers before this one, and then this one's weights are what they are."""
        dtype = self.example.dtype
        if x.dtype != dtype and not torch.is_autocast_enabled("cpu"):
            raise OptimizeError(
                f"the optimised model got {x.dtype} and takes {dtype}: cast it, or make another by "
                f"optimize_for_inference(model, {x.dtype})"
            )
        return x.to(dtype)

    def _by_panels(self, x: Tensor, residual: Tensor | None) -> Tensor:
        out = x.new_empty(*x.shape[:-1], self.out_features)
        residual = None if residual is None else residual.contiguous()
        return linear_into(out, x.contiguous(), self.weight, self.sums_from, residual, gelu=self.activation == "gelu")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.form == "panels" and self.layout != panel_layout():
            raise OptimizeError(
                "this optimised model was saved on another kind of processor, or by another version: save the model "
                "that it was made from, and optimise it here"
            )

    def _by_onednn(self, x: Tensor, residual: Tensor | None) -> Tensor:
        if not x.numel():  # of nothing it has no products
            return x.new_empty(*x.shape[:-1], self.out_features)
        product = torch.ops.mkldnn._linear_pointwise
        out: Tensor
        if residual is None:
            out = product(x, self.weight, self.bias, self.activation, [], "none")
        else:
            out = product.binary(x, residual, self.weight, self.bias, "add")
        return out


def _refuse_derivatives(*maps: Tensor | None) -> None:
    """Packed products know none, and would leave them out in silence."""
    if is_transformed() or (torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in maps)):
        raise OptimizeError(
            "an optimised model has no derivatives, and takes neither torch.func nor torch.jit.trace: use the model "
            "that it was made from"
        )


def _can_pack(weight: Tensor) -> bool:
    """Whether oneDNN has products of that dtype here."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if weight.dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return weight.dtype == torch.float32


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """What a block adds to its scores, and what V2 multiplies them by, in the precision of the model's parameters."""

    bias: Float[Tensor, "heads height width height width"]
    logit_scale: Float[Tensor, " heads"] | None

    @classmethod
    def of(cls, block: SwinBlock) -> Self:
        bias = block.attn.relative_position_bias(block.window_size)
        bias = bias.reshape(len(bias), *block.window_size, *block.window_size)
        scale = block.attn.score_scale() if isinstance(block.attn, WindowAttentionV2) else None
        return cls(bias=bias.contiguous(), logit_scale=scale)


class _FastBlock(_Fixed):
    """`SwinBlock` with its scores' bias computed and its linear layers fused."""

    def __init__(self, block: SwinBlock, scores: _Scores, *, pack: bool) -> None:
        super().__init__()
        self.norm_first, self.shifted = block.norm_first, block.shifted
        self.window_size, self.single_window = block.window_size, block.single_window
        self.bias, self.logit_scale = scores.bias, scores.logit_scale
        self.norm1, self.norm2 = block.norm1, block.norm2
        attn = block.attn
        qkv_bias = attn.qkv_bias() if isinstance(attn, WindowAttentionV2) else attn.qkv.bias
        self.qkv = FusedLinear(attn.qkv.weight, qkv_bias, pack=pack)
        self.proj = FusedLinear.of(attn.proj, pack=pack)
        self.fc1 = FusedLinear.of(block.mlp.fc1, "gelu", pack=pack)
        self.fc2 = FusedLinear.of(block.mlp.fc2, pack=pack)
        self.example = self.qkv.example
        self.in_pieces = self.qkv.form != "plain"

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        window, shift = choose_window(
            (x.shape[1], x.shape[2]), self.window_size, shifted=self.shifted, single_window=self.single_window
        )
        attended = window_attention(
            self.qkv(self.norm1(x) if self.norm_first else x),
            self._bias_of(window),
            window_size=window,
            shift_size=shift,
            pad_token=self.qkv.bias,
            logit_scale=self.logit_scale,
        )
        x = self.proj(attended, x) if self.norm_first else x + self.norm1(self.proj(attended))
        del attended
        tokens = x.shape[0] * x.shape[1] * x.shape[2]
        if not self.in_pieces or tokens <= _PIECE_TOKENS:
            return self._mlp(x)
        out = torch.empty_like(x)
        for piece, to in zip(x.flatten(0, 2).split(_PIECE_TOKENS), out.flatten(0, 2).split(_PIECE_TOKENS), strict=True):
            to.copy_(self._mlp(piece))
        return out

    def _bias_of(self, window: Size) -> Float[Tensor, "heads N N"]:
        """A smaller window has the same offsets as a corner of the whole one."""
        height, width = window
        return self.bias[:, :height, :width, :height, :width].reshape(-1, height * width, height * width)

    def _mlp(self, x: Float[Tensor, "*shape C"]) -> Float[Tensor, "*shape C"]:
        if self.norm_first:
            out: Tensor = self.fc2(self.fc1(self.norm2(x)), x)
            return out
        return x + self.norm2(self.fc2(self.fc1(x)))


class _FastStage(nn.Module):
    """`SwinStage` that takes a batch a few images at a time: their maps stay in the cache from block to block."""

    def __init__(self, stage: SwinStage) -> None:
        super().__init__()
        self.blocks = stage.blocks
        self.downsample = stage.downsample

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        images = max(1, _PIECE_TOKENS // (x.shape[1] * x.shape[2]))
        if images >= len(x):
            return self._run(x)
        return torch.cat([self._run(part) for part in x.split(images)])

    def _run(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        for block in self.blocks:
            x = block(x)
        return x


class _FastPatchEmbed(nn.Module):
    """`PatchEmbed` as a product with patches, after which no map is left to be transposed."""

    def __init__(self, embed: PatchEmbed) -> None:
        super().__init__()
        self.patch_size = embed.patch_size
        self.in_channels = embed.proj.in_channels
        self.proj = FusedLinear(embed.proj.weight.flatten(1), embed.proj.bias)
        self.norm = embed.norm

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        height, width = self.patch_size
        patches = whole_patches(images, self.in_channels, self.patch_size).unfold(2, height, height)
        patches = patches.unfold(3, width, width).permute(0, 2, 3, 1, 4, 5)  # (B, h, w, C, height, width)
        return self.norm(self.proj(patches.flatten(3)))
