"""A copy of a model with each of its parts in its fastest form."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from ..backbone.layers import PatchEmbed, PatchMerging
from ..backbone.swin import Swin, SwinBlock, SwinStage
from ..backbone.whole import is_whole_block, is_whole_embedding, replace_modules
from ..heads.conv import ConvModule, fold_batch_norm
from ..models.named_classes import NamedClasses
from ..ops import has_own_layer_norm, is_plain
from .convolution import FastConvolution, FastLevels, is_convolution, is_levels_convolution
from .linear import Fixed, FusedLinear, OptimizeError
from .norm import FusedNorm
from .stages import FastPatchMerging, FastStage, FastStages
from .swin import FastBlock, FastPatchEmbed, Scores

_Model = TypeVar("_Model", bound=nn.Module)


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
        scores = {block: Scores.of(block) for block in fast.modules() if is_whole_block(block)}
        fast = fast.to(dtype=dtype)
        replace_modules(fast, is_whole_block, lambda block: FastBlock(block, scores[block], pack=not compile))
        replace_modules(fast, lambda module: is_plain(module, ConvModule), fold_batch_norm)
        if not compile:
            replace_modules(fast, is_whole_embedding, FastPatchEmbed)
            _make_heads_fast(fast)
            replace_modules(fast, lambda module: is_plain(module, nn.Linear), FusedLinear.of)
            replace_modules(fast, _is_norm_with_kernel, FusedNorm)
            replace_modules(fast, lambda module: is_plain(module, SwinStage), FastStage)
            replace_modules(fast, lambda module: is_plain(module, PatchMerging), FastPatchMerging)
            for module in fast.modules():
                # Whoever goes through the stages in a way of their own goes on to do so.
                if isinstance(module, Swin) and type(module).forward_stages is Swin.forward_stages:
                    module.layers = FastStages(module.layers)
    if compile:
        for module in fast.modules():
            if isinstance(module, Swin):
                module.compile(dynamic=False)
    if isinstance(fast, NamedClasses):
        fast.classes = named  # names go with layers, and these are others
    fast.register_state_dict_pre_hook(_refuse_state_dict)
    return fast


def _is_norm_with_kernel(module: nn.Module) -> bool:
    return is_plain(module, nn.LayerNorm) and has_own_layer_norm(module)


def _make_heads_fast(model: nn.Module) -> None:
    """Convolutions of all that is no patch embedding: of those a user may have put another one in."""
    for head in model.modules():
        if is_levels_convolution(head):
            head.fpn_bottleneck = FastLevels.of(head)
    embeddings = {id(module.proj) for module in model.modules() if isinstance(module, PatchEmbed)}
    replace_modules(model, lambda module: is_convolution(module) and id(module) not in embeddings, FastConvolution)


def is_optimized(model: nn.Module) -> bool:
    """Whether `optimize_for_inference` made it."""
    return any(isinstance(module, Fixed) for module in model.modules())


def _refuse_state_dict(*_: object) -> None:
    raise OptimizeError("an optimised model has no state dict: save the model that it was made from")
