"""The API of version 0.4.1: `SwinTransformer` and `swin_t`, `swin_s`, `swin_b`, `swin_l`.

Code and checkpoints of 0.4.1 keep working: the same keyword arguments, state-dict keys, initial weights and logits.
Its architecture is its own, so its `swin_t` is not the paper's Swin-T and cannot hold published weights:

- one position table for all heads of a block, indexed by key minus query, drawn from a standard normal;
- patches merged by a linear layer with a bias and no norm, ordered channels, rows, columns;
- no bias in the query, key and value projection;
- the mean over the map comes before the head's norm;
- the shift stays where one window covers the whole map, and a map must hold whole windows.

New code wants `create_model` and `create_backbone`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict, Unpack

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .ops import window_attention

NUM_STAGES = 4


class SwinTransformer(nn.Module):
    """The classifier of 0.4.1: images (B, channels, H, W) -> logits (B, num_classes).

    Image sides must be multiples of `window_size` times the product of `downscaling_factors` (224 by default). Pixels
    right and bottom that fill no whole patch are left out, as 0.4.1 did.

    Args:
        hidden_dim: channels of the first stage; each later one doubles them.
        layers: blocks in each of the four stages; even, since plain and shifted windows alternate.
        heads: attention heads in each of the four stages.
        channels: channels of the image.
        num_classes: number of logits.
        head_dim: channels of one head; heads times head_dim need not be a stage's channels.
        window_size: tokens on a side of an attention window.
        downscaling_factors: each stage's stride over the map before it, in pixels for the first.
        relative_pos_embedding: a table over relative positions, or else one free number for each pair of tokens.

    Raises:
        ValueError: arguments that cannot be built, or an image of a size that holds no whole windows.
    """

    def __init__(
        self,
        *,
        hidden_dim: int,
        layers: Sequence[int],
        heads: Sequence[int],
        channels: int = 3,
        num_classes: int = 1000,
        head_dim: int = 32,
        window_size: int = 7,
        downscaling_factors: Sequence[int] = (4, 2, 2, 2),
        relative_pos_embedding: bool = True,
    ) -> None:
        super().__init__()
        for name, values in (("layers", layers), ("heads", heads), ("downscaling_factors", downscaling_factors)):
            if len(values) != NUM_STAGES:
                raise ValueError(f"{name}={values!r} has {len(values)} numbers; give {NUM_STAGES}, one for each stage")
        if any(depth % 2 for depth in layers):
            raise ValueError(
                f"layers={layers!r} has an odd number; plain and shifted blocks come in pairs: use even ones"
            )
        self.channels = channels
        self.side_multiple = window_size * math.prod(downscaling_factors)

        dims = [channels, *(hidden_dim * 2**index for index in range(NUM_STAGES))]

        def stage(index: int) -> StageModule:
            # Made in 0.4.1's order, so that one seed draws the same initial weights.
            dim = dims[index + 1]
            patch_partition = PatchMerging(dims[index], dim, downscaling_factors[index])
            pairs = [
                nn.ModuleList(
                    SwinBlock(
                        dim,
                        WindowAttention(
                            dim,
                            num_heads=heads[index],
                            head_dim=head_dim,
                            window_size=window_size,
                            shifted=shifted,
                            relative_pos_embedding=relative_pos_embedding,
                        ),
                    )
                    for shifted in (False, True)
                )
                for _ in range(layers[index] // 2)
            ]
            return StageModule(patch_partition, pairs, window_size)

        self.stage1 = stage(0)
        self.stage2 = stage(1)
        self.stage3 = stage(2)
        self.stage4 = stage(3)
        self.mlp_head = nn.Sequential(nn.LayerNorm(dims[-1]), nn.Linear(dims[-1], num_classes))

    def forward(self, img: Float[Tensor, "B channels H W"]) -> Float[Tensor, "B num_classes"]:
        if img.ndim != 4 or img.shape[1] != self.channels:
            raise ValueError(f"got images of shape {tuple(img.shape)}; give (batch, {self.channels}, height, width)")
        x = img
        for number, stage in enumerate((self.stage1, self.stage2, self.stage3, self.stage4), start=1):
            height, width = stage.map_size(x)
            window = stage.window_size
            if min(height, width) < 1 or height % window or width % window:
                raise ValueError(
                    f"images of {img.shape[2]}x{img.shape[3]} pixels (height x width) give stage {number} a map of "
                    f"{height}x{width}, which windows of {window}x{window} do not fill; resize or pad both sides to "
                    f"multiples of {self.side_multiple}"
                )
            x = stage(x)
        return self.mlp_head(x.mean(dim=(2, 3)))


class StageModule(nn.Module):
    """Merges patches, then runs pairs of a plain and a shifted block."""

    def __init__(self, patch_partition: PatchMerging, pairs: Sequence[nn.ModuleList], window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.patch_partition = patch_partition
        self.layers = nn.ModuleList(pairs)

    def map_size(self, x: Float[Tensor, "B C H W"]) -> tuple[int, int]:
        """Height and width, in tokens, of this stage's map for the input `x`."""
        stride = self.patch_partition.stride
        return x.shape[2] // stride, x.shape[3] // stride

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B dim h w"]:
        x = self.patch_partition(x)  # (B, h, w, dim)
        for pair in self.layers:
            for block in pair.children():
                x = block(x)
        return x.permute(0, 3, 1, 2)


class PatchMerging(nn.Module):
    """Projects each patch of stride x stride pixels or tokens to one token."""

    def __init__(self, in_channels: int, dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.linear = nn.Linear(in_channels * stride**2, dim)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w dim"]:
        height, width = x.shape[2] // self.stride, x.shape[3] // self.stride
        patches = F.unfold(x, kernel_size=self.stride, stride=self.stride)  # (B, C*stride*stride, h*w)
        return self.linear(patches.transpose(1, 2)).unflatten(1, (height, width))


class SwinBlock(nn.Module):
    """Attention and MLP, each on the normed map and added to it."""

    def __init__(self, dim: int, attention: WindowAttention) -> None:
        super().__init__()
        self.attention_block = Residual(PreNorm(dim, attention))
        self.mlp_block = Residual(PreNorm(dim, FeedForward(dim, dim * 4)))

    def forward(self, x: Float[Tensor, "B H W dim"]) -> Float[Tensor, "B H W dim"]:
        return self.mlp_block(self.attention_block(x))


class Residual(nn.Module):
    """Adds what `fn` makes of the input to the input. A module of its own because 0.4.1's keys name it."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        return x + self.fn(x)


class PreNorm(nn.Module):
    """Norms the input of `fn`. A module of its own because 0.4.1's keys name it."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        return self.fn(self.norm(x))


class FeedForward(nn.Module):
    """The MLP of a block."""

    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim))

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        return self.net(x)


class WindowAttention(nn.Module):
    """Attention in plain or shifted windows, with 0.4.1's parameters around the shared op.

    The two mask parameters of a shifted block are only held, since checkpoints have them: the op masks by itself,
    with -100 where they have minus infinity.
    """

    relative_index: Tensor

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        head_dim: int,
        window_size: int,
        shifted: bool,
        relative_pos_embedding: bool,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift_size = window_size // 2 if shifted else 0
        self.relative_pos_embedding = relative_pos_embedding

        if shifted:
            for name, axis in (("upper_lower_mask", 0), ("left_right_mask", 1)):
                mask = shift_mask(window_size, self.shift_size, axis)
                self.register_parameter(name, nn.Parameter(mask, requires_grad=False))
        self.to_qkv = nn.Linear(dim, num_heads * head_dim * 3, bias=False)
        if relative_pos_embedding:
            self.register_buffer("relative_index", relative_index(window_size), persistent=False)
            self.pos_embedding = nn.Parameter(torch.randn(2 * window_size - 1, 2 * window_size - 1))
        else:
            self.pos_embedding = nn.Parameter(torch.randn(window_size**2, window_size**2))
        self.to_out = nn.Linear(num_heads * head_dim, dim)

    def forward(self, x: Float[Tensor, "B H W dim"]) -> Float[Tensor, "B H W dim"]:
        bias = self.pos_embedding.flatten()[self.relative_index] if self.relative_pos_embedding else self.pos_embedding
        out = window_attention(
            self.to_qkv(x),
            bias.expand(self.num_heads, -1, -1),
            window_size=(self.window_size, self.window_size),
            shift_size=(self.shift_size, self.shift_size),
        )
        return self.to_out(out)


def relative_index(window_size: int) -> Int[Tensor, "N N"]:
    """Where the flattened position table has the number for each (query, key): the offset key minus query."""
    rows, columns = (torch.arange(window_size**2) // window_size, torch.arange(window_size**2) % window_size)
    row_offsets, column_offsets = (axis[None, :] - axis[:, None] + window_size - 1 for axis in (rows, columns))
    return row_offsets * (2 * window_size - 1) + column_offsets


def shift_mask(window_size: int, shift_size: int, axis: int) -> Float[Tensor, "N N"]:
    """0.4.1's mask of the last windows along an axis (0: rows, 1: columns): 0, or minus infinity across the seam."""
    position = torch.arange(window_size**2)
    along_axis = position // window_size if axis == 0 else position % window_size
    wrapped = along_axis >= window_size - shift_size
    return torch.zeros(window_size**2, window_size**2).masked_fill(wrapped[:, None] != wrapped[None, :], -math.inf)


class Options(TypedDict, total=False):
    """The further keyword arguments of the four sizes: those of `SwinTransformer`, with its defaults."""

    channels: int
    num_classes: int
    head_dim: int
    window_size: int
    downscaling_factors: Sequence[int]
    relative_pos_embedding: bool


def swin_t(
    hidden_dim: int = 96,
    layers: Sequence[int] = (2, 2, 6, 2),
    heads: Sequence[int] = (3, 6, 12, 24),
    **options: Unpack[Options],
) -> SwinTransformer:
    """0.4.1's tiny model. Not the paper's Swin-T: see the module's description."""
    return SwinTransformer(hidden_dim=hidden_dim, layers=layers, heads=heads, **options)


def swin_s(
    hidden_dim: int = 96,
    layers: Sequence[int] = (2, 2, 18, 2),
    heads: Sequence[int] = (3, 6, 12, 24),
    **options: Unpack[Options],
) -> SwinTransformer:
    """0.4.1's small model. Not the paper's Swin-S: see the module's description."""
    return SwinTransformer(hidden_dim=hidden_dim, layers=layers, heads=heads, **options)


def swin_b(
    hidden_dim: int = 128,
    layers: Sequence[int] = (2, 2, 18, 2),
    heads: Sequence[int] = (4, 8, 16, 32),
    **options: Unpack[Options],
) -> SwinTransformer:
    """0.4.1's base model. Not the paper's Swin-B: see the module's description."""
    return SwinTransformer(hidden_dim=hidden_dim, layers=layers, heads=heads, **options)


def swin_l(
    hidden_dim: int = 192,
    layers: Sequence[int] = (2, 2, 18, 2),
    heads: Sequence[int] = (6, 12, 24, 48),
    **options: Unpack[Options],
) -> SwinTransformer:
    """0.4.1's large model. Not the paper's Swin-L: see the module's description."""
    return SwinTransformer(hidden_dim=hidden_dim, layers=layers, heads=heads, **options)
