"""The API of version 0.4.1: `SwinTransformer` and `swin_t`, `swin_s`, `swin_b`, `swin_l`.

Code and checkpoints of 0.4.1 keep working: the same keyword arguments, state-dict keys, initial weights and logits.
Its architecture is its own, so its `swin_t` is not the paper's Swin-T and cannot hold published weights:

- one position table for all heads of a block, indexed by key minus query, drawn from a standard normal;
- patches merged by a linear layer with a bias and no norm, ordered channels, rows, columns;
- no bias in the query, key and value projection;
- the mean over the map comes before the head's norm;
- the shift stays where one window covers the whole map, and a map must hold whole windows.

Its module `swin_transformer` is this one under its old name, so all names of that module are here, with 0.4.1's
constructors and attributes. New code wants `create_model` and `create_backbone`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import torch
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
        dims = [channels, *(hidden_dim * 2**index for index in range(NUM_STAGES))]

        def stage(index: int) -> StageModule:
            return StageModule(
                in_channels=dims[index],
                hidden_dimension=dims[index + 1],
                layers=layers[index],
                downscaling_factor=downscaling_factors[index],
                num_heads=heads[index],
                head_dim=head_dim,
                window_size=window_size,
                relative_pos_embedding=relative_pos_embedding,
            )

        self.stage1 = stage(0)
        self.stage2 = stage(1)
        self.stage3 = stage(2)
        self.stage4 = stage(3)
        self.mlp_head = nn.Sequential(nn.LayerNorm(dims[-1]), nn.Linear(dims[-1], num_classes))

    def forward(self, img: Float[Tensor, "B channels H W"]) -> Float[Tensor, "B num_classes"]:
        stages: tuple[StageModule, ...] = (self.stage1, self.stage2, self.stage3, self.stage4)
        self._check(img, stages)
        x = img
        for stage in stages:
            x = stage(x)
        return self.mlp_head(x.mean(dim=(2, 3)))

    def _check(self, img: Tensor, stages: Sequence[StageModule]) -> None:
        """From what 0.4.1's modules hold as well, so that whole models which were pickled by it still run."""
        first = stages[0].patch_partition
        width = getattr(first.linear, "in_features", None)  # a stand-in may not say
        channels = None if width is None else width // first.downscaling_factor**2
        if img.ndim != 4 or img.shape[1] != (channels or img.shape[1]):
            raise ValueError(f"got images of shape {tuple(img.shape)}; give (batch, {channels}, height, width)")
        strides = [stage.patch_partition.downscaling_factor for stage in stages]
        height, width = img.shape[2:]
        for number, (stage, stride) in enumerate(zip(stages, strides, strict=True), start=1):
            height, width = height // stride, width // stride
            window = stage.window_size
            if min(height, width) < 1 or height % window or width % window:
                raise ValueError(
                    f"images of {img.shape[2]}x{img.shape[3]} pixels (height x width) give stage {number} a map of "
                    f"{height}x{width}, which windows of {window}x{window} do not fill; resize or pad both sides to "
                    f"multiples of {max(stage.window_size for stage in stages) * math.prod(strides)}"
                )


class StageModule(nn.Module):
    """Merges patches, then runs pairs of a plain and a shifted block: (B, in_channels, H, W) -> (B, dim, h, w)."""

    def __init__(
        self,
        in_channels: int,
        hidden_dimension: int,
        layers: int,
        downscaling_factor: int,
        num_heads: int,
        head_dim: int,
        window_size: int,
        relative_pos_embedding: bool,
    ) -> None:
        super().__init__()
        if layers % 2:
            raise ValueError(f"layers={layers!r} is odd; plain and shifted blocks come in pairs: use an even number")
        # Made in 0.4.1's order, so that one seed draws the same initial weights.
        self.patch_partition = PatchMerging(in_channels, hidden_dimension, downscaling_factor)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                SwinBlock(
                    dim=hidden_dimension,
                    heads=num_heads,
                    head_dim=head_dim,
                    mlp_dim=hidden_dimension * 4,
                    shifted=shifted,
                    window_size=window_size,
                    relative_pos_embedding=relative_pos_embedding,
                )
                for shifted in (False, True)
            )
            for _ in range(layers // 2)
        )

    @property
    def window_size(self) -> int:
        """Of the attention, in tokens: 1 where there is none, or one that does not say."""
        return next((int(module.window_size) for module in self.modules() if isinstance(module, WindowAttention)), 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B dim h w"]:
        x = self.patch_partition(x)  # (B, h, w, dim)
        for pair in self.layers:
            for block in pair.children():
                x = block(x)
        return x.permute(0, 3, 1, 2)


class PatchMerging(nn.Module):
    """Projects each patch of `downscaling_factor` by as many pixels or tokens to one token."""

    def __init__(self, in_channels: int, out_channels: int, downscaling_factor: int) -> None:
        super().__init__()
        self.downscaling_factor = downscaling_factor
        self.patch_merge = nn.Unfold(kernel_size=downscaling_factor, stride=downscaling_factor)
        self.linear = nn.Linear(in_channels * downscaling_factor**2, out_channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w dim"]:
        height, width = x.shape[2] // self.downscaling_factor, x.shape[3] // self.downscaling_factor
        patches = self.patch_merge(x)  # (B, C * patch, h * w)
        return self.linear(patches.transpose(1, 2)).unflatten(1, (height, width))


class SwinBlock(nn.Module):
    """Attention and MLP, each on the normed map and added to it."""

    def __init__(
        self,
        dim: int,
        heads: int,
        head_dim: int,
        mlp_dim: int,
        shifted: bool,
        window_size: int,
        relative_pos_embedding: bool,
    ) -> None:
        super().__init__()
        attention = WindowAttention(
            dim=dim,
            heads=heads,
            head_dim=head_dim,
            shifted=shifted,
            window_size=window_size,
            relative_pos_embedding=relative_pos_embedding,
        )
        self.attention_block = Residual(PreNorm(dim, attention))
        self.mlp_block = Residual(PreNorm(dim, FeedForward(dim, mlp_dim)))

    def forward(self, x: Float[Tensor, "B H W dim"]) -> Float[Tensor, "B H W dim"]:
        return self.mlp_block(self.attention_block(x))


class Residual(nn.Module):
    """Adds what `fn` makes of the input to the input. A module of its own because 0.4.1's keys name it."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Float[Tensor, "*shape dim"], **kwargs: Any) -> Float[Tensor, "*shape dim"]:
        return x + self.fn(x, **kwargs)


class PreNorm(nn.Module):
    """Norms the input of `fn`. A module of its own because 0.4.1's keys name it."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Float[Tensor, "*shape dim"], **kwargs: Any) -> Float[Tensor, "*shape dim"]:
        return self.fn(self.norm(x), **kwargs)


class FeedForward(nn.Module):
    """The MLP of a block."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim))

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        return self.net(x)


class WindowAttention(nn.Module):
    """Attention in plain or shifted windows, with 0.4.1's parameters around the shared op.

    The masks and the shifts of a shifted block are only held, since checkpoints and patched methods have them: the op
    shifts and masks by itself, with -100 where 0.4.1 has minus infinity.

    Attributes:
        relative_indices: (N, N, 2), where the table has the number for each (query, key), row and column.
    """

    relative_indices: Tensor

    def __init__(
        self, dim: int, heads: int, head_dim: int, shifted: bool, window_size: int, relative_pos_embedding: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.scale = head_dim**-0.5
        self.window_size = window_size
        self.relative_pos_embedding = relative_pos_embedding
        self.shifted = shifted
        if shifted:
            displacement = window_size // 2
            self.cyclic_shift = CyclicShift(-displacement)
            self.cyclic_back_shift = CyclicShift(displacement)
            for name, rows in (("upper_lower_mask", True), ("left_right_mask", False)):
                mask = create_mask(window_size, displacement, upper_lower=rows, left_right=not rows)
                self.register_parameter(name, nn.Parameter(mask, requires_grad=False))
        self.to_qkv = nn.Linear(dim, heads * head_dim * 3, bias=False)
        if relative_pos_embedding:
            indices = get_relative_distances(window_size) + window_size - 1
            self.register_buffer("relative_indices", indices, persistent=False)
            self.pos_embedding = nn.Parameter(torch.randn(2 * window_size - 1, 2 * window_size - 1))
        else:
            self.pos_embedding = nn.Parameter(torch.randn(window_size**2, window_size**2))
        self.to_out = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Float[Tensor, "B H W dim"]) -> Float[Tensor, "B H W dim"]:
        bias: Tensor = self.pos_embedding
        if self.relative_pos_embedding:
            bias = bias[self.relative_indices[..., 0], self.relative_indices[..., 1]]
        shift = self.window_size // 2 if self.shifted else 0
        out = window_attention(
            self.to_qkv(x),
            bias.expand(self.heads, -1, -1),
            window_size=(self.window_size, self.window_size),
            shift_size=(shift, shift),
        )
        return self.to_out(out)


class CyclicShift(nn.Module):
    """Moves a map's rows and columns down and right by `displacement` tokens; what leaves it comes in again."""

    def __init__(self, displacement: int) -> None:
        super().__init__()
        self.displacement = displacement

    def forward(self, x: Float[Tensor, "B H W dim"]) -> Float[Tensor, "B H W dim"]:
        return x.roll((self.displacement, self.displacement), dims=(1, 2))


def create_mask(window_size: int, displacement: int, upper_lower: bool, left_right: bool) -> Float[Tensor, "N N"]:
    """Of the last windows: 0, or minus infinity across the seam of the shift, between rows or columns or both."""
    position = torch.arange(window_size**2)
    mask = torch.zeros(window_size**2, window_size**2)
    for wanted, along_axis in ((upper_lower, position // window_size), (left_right, position % window_size)):
        if wanted:
            wrapped = along_axis >= window_size - displacement
            mask = mask.masked_fill(wrapped[:, None] != wrapped[None, :], -math.inf)
    return mask


def get_relative_distances(window_size: int) -> Int[Tensor, "N N 2"]:
    """Key minus query of each (query, key) of a window: rows, then columns."""
    position = torch.arange(window_size**2)
    places = torch.stack([position // window_size, position % window_size], dim=-1)
    return places[None, :] - places[:, None]


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
