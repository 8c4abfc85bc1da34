"""Attention weights of a Swin's blocks, and what one token looks at, as a picture of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..backbone.attention import WindowAttention, WindowAttentionV2
from ..backbone.swin import SwinBlock
from ..checks import shown
from ..names import did_you_mean
from ..ops import attention_weights
from ..predict import AnyImage, Predictor
from ..sizes import Size
from .view import ExplainError, NotInImageError, View, find_swin, looking_into, view_of


@dataclass(frozen=True, kw_only=True)
class _Look:
    """One block's attention on a map of `map_size` tokens, each of `stride` pixels of the input."""

    weights: Float[Tensor, "down across heads N N"]
    map_size: Size
    window_size: Size
    shift_size: Size
    stride: Size


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenAttention:
    """What one token of a block looks at.

    Attributes:
        heat: float32, (heads, height, width) of the image: at each pixel the weight of the token that it belongs to; 0
            beyond the token's window.
        cell_xyxy: the token itself: left, top, right and bottom edges in the image's pixels.
        padding: float32, (heads,): the weight on padding, which is nowhere in the image. A head's weights of tokens
            and this sum to 1.
    """

    heat: NDArray[np.float32]
    cell_xyxy: tuple[float, float, float, float]
    padding: NDArray[np.float32]


def attention_maps(
    model_or_predictor: nn.Module | Predictor, image: AnyImage, blocks: Sequence[str] | str | None = None
) -> dict[str, Float[Tensor, "down across heads N N"]]:
    """The softmax weights of each block's window attention on one image, as the reference computes them.

    `maps[name][y, x, head, query, key]` is how much of `key`'s value token `query` takes, in the window that is y-th
    from the top and x-th from the left; each row sums to 1. A window's N tokens are numbered row by row.

    The windows are those of the padded and rolled map, as the block cuts it: token (r, c) of window (y, x) is the
    map's row (y * window height + r + shift height) % padded height, and so for columns. Of a shifted block, the last
    row and column of windows therefore hold tokens from opposite edges, between which the mask leaves weights of about
    e**-100. Rows and columns beyond the map are padding; it takes part as in the official code, as query and as key.
    Window and shift are `ops.choose_window(map_size, block.window_size, ...)`: a map that fits into one window may
    have a smaller one, and no shift.

    A block's maps take 4 bytes * heads * tokens of the padded map * N. All of Swin-T are 9 MB at 224 x 224 pixels and
    190 MB at 800 x 1333, all of Swin-L with windows of 12 are 0.2 GB at 384 x 384. They are in memory together: name
    the `blocks` that you need.

    Args:
        model_or_predictor: a classifier, detector, segmenter or backbone of this package, neither exported nor
            optimised; afterwards it is as it was before.
        image: in any form that a `Predictor` takes, then prepared as the model says; or a batch of one as the model
            takes it, a tensor (1, C, H, W), which is the only form for a backbone without `preprocessing`.
        blocks: names such as "layers.0.blocks.1", in a detector or segmenter "backbone.layers.0.blocks.1"; None: all.

    Returns:
        Block name -> tensor (windows down, windows across, heads, N, N) on the model's device, in its dtype and at
        least float32.

    Raises:
        ExplainError: (a `ValueError`) there is no such block, or a block's attention is not this package's.
    """
    _, looks = _look(model_or_predictor, image, [blocks] if isinstance(blocks, str) else blocks)
    return {name: look.weights for name, look in looks.items()}


def attention_at(
    model_or_predictor: nn.Module | Predictor, image: AnyImage, block: str, at: tuple[float, float]
) -> TokenAttention:
    """What the token at one pixel of an image looks at in one block.

    Args:
        model_or_predictor, image, block: as `attention_maps` has them.
        at: (x, y) in the image's pixels.

    Raises:
        ExplainError: as there, or the model does not see that pixel.
    """
    view, looks = _look(model_or_predictor, image, [block])
    look = looks[block]
    token, window, inside = [], [], []  # each first of rows, then of columns
    for axis, (name, place) in enumerate((("y", at[1]), ("x", at[0]))):
        start, stop = view.seen[1 - axis], view.seen[3 - axis]
        if not max(start, 0) <= place < min(stop, view.image_size[axis]):
            raise NotInImageError(
                f"at={at} lies where the model does not look: {name} may be from {max(start, 0):g} to less than "
                f"{min(stop, view.image_size[axis]):g}"
            )
        cell = int((place - start) / (stop - start) * view.input_size[axis] // look.stride[axis])
        side, shift = look.window_size[axis], look.shift_size[axis]
        padded = look.weights.shape[axis] * side
        rolled = (cell - shift) % padded
        token.append(cell)
        window.append((rolled // side, rolled % side))
        inside.append((np.arange(side) + rolled // side * side + shift) % padded)
    (down, row), (across, column) = window
    weights = look.weights[down, across, :, row * look.window_size[1] + column].float().cpu().numpy()
    weights = weights.reshape(-1, *look.window_size)
    cells = np.zeros(
        (len(weights), *(max(side, one.max() + 1) for side, one in zip(look.map_size, inside, strict=True)))
    )
    cells[:, inside[0][:, None], inside[1]] = weights
    on_map = cells[:, : look.map_size[0], : look.map_size[1]]
    top, left = (cell * stride for cell, stride in zip(token, look.stride, strict=True))
    return TokenAttention(
        heat=np.nan_to_num(view.spread(on_map, look.stride, smooth=False)).astype(np.float32),
        cell_xyxy=view.box((left, top, left + look.stride[1], top + look.stride[0])),
        padding=(cells.sum(axis=(1, 2)) - on_map.sum(axis=(1, 2))).astype(np.float32),
    )


def _look(source: nn.Module | Predictor, image: AnyImage, names: Sequence[str] | None) -> tuple[View, dict[str, _Look]]:
    looks: dict[str, _Look] = {}
    with looking_into(source) as model, torch.no_grad():
        prefix, swin = find_swin(model)
        blocks = {
            f"{prefix}layers.{stage}.blocks.{index}": (block, swin.config.stage_strides[stage])
            for stage, layer in enumerate(swin.layers)
            for index, block in enumerate(layer.blocks)  # type: ignore[union-attr,arg-type]
        }
        view = view_of(source, model, image)
        hooks = []
        try:
            for name in blocks if names is None else names:
                if name not in blocks:
                    hint = did_you_mean(name, blocks) or f"they are called {next(iter(blocks))} and so on; "
                    raise ExplainError(f"there is no block {shown(name)}; {hint}the model has {len(blocks)}")
                block, stride = blocks[name]
                attn = block.attn if isinstance(block, SwinBlock) else block
                if not isinstance(attn, WindowAttention | WindowAttentionV2):
                    raise ExplainError(
                        f"the attention of {name} is a {type(attn).__name__}, which is not this package's: put the "
                        "original back, or name other blocks"
                    )
                hooks.append(attn.register_forward_pre_hook(_keep_weights(looks, name, stride)))
            swin(view.pixels)
        finally:
            for hook in hooks:
                hook.remove()
    return view, looks


def _keep_weights(looks: dict[str, _Look], name: str, stride: Size) -> Any:
    def keep(attn: WindowAttention | WindowAttentionV2, inputs: tuple[Tensor, Size, Size]) -> None:
        x, window, shift = inputs
        weights = attn.attend(attention_weights, x, window, shift)[0]
        looks[name] = _Look(
            weights=weights,
            map_size=(x.shape[1], x.shape[2]),
            window_size=window,
            shift_size=shift,
            stride=stride,
        )

    return keep
