"""Stages in the form that exported graphs have: for maps of every size, or of one without any arithmetic on it.

The definition stays `ops.reference`. No tensor has more than 5 axes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.attention import WindowAttentionV2
from ..backbone.layers import PatchMerging
from ..backbone.swin import SwinBlock, SwinStage
from ..ops import choose_window, pad_map
from ..ops.windows import MASKED_SCORE
from ..sizes import Size
from .places import Places


class ExportedStage(nn.Module):
    """`SwinStage` for exporters: its blocks share what is known of the map's size.

    Args:
        stage: what it does as well.
        map_size: the only size (height, width) that its map has; None for any.
    """

    def __init__(self, stage: SwinStage, map_size: Size | None = None) -> None:
        super().__init__()
        blocks: list[Any] = list(stage.blocks)
        self.blocks = nn.ModuleList(ExportedBlock(block, map_size) for block in blocks)
        self.downsample = None if stage.downsample is None else ExportedMerging(stage.downsample)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        places: dict[bool, Places] = {}
        block: ExportedBlock
        for block in self.blocks:  # type: ignore[assignment]
            if block.shifted not in places:
                places[block.shifted] = block.places((x.shape[1], x.shape[2]))
            x = block(x, places[block.shifted])
        return x


class ExportedBlock(nn.Module):
    """`SwinBlock` for exporters, its biases computed and V1's scale in its weights. See `ExportedStage`."""

    bias: Float[Tensor, "kinds heads N N"]
    logit_scale: Float[Tensor, "heads 1 1"] | None

    def __init__(self, block: SwinBlock, map_size: Size | None = None) -> None:
        super().__init__()
        attn = block.attn
        self.norm_first, self.num_heads = block.norm_first, attn.num_heads
        self.norm1, self.norm2, self.mlp, self.proj = block.norm1, block.norm2, block.mlp, attn.proj
        self.window_size, self.shifted, self.single_window = block.window_size, block.shifted, block.single_window
        if map_size is not None:
            self.window_size, shift = choose_window(
                map_size, block.window_size, shifted=block.shifted, single_window=block.single_window
            )
            self.shifted, self.single_window = any(shift), "keep"
        dim = attn.qkv.in_features
        self.qkv = nn.Linear(dim, 3 * dim).to(attn.qkv.weight)
        with torch.no_grad():
            added = attn.qkv_bias() if isinstance(attn, WindowAttentionV2) else attn.qkv.bias
            self.qkv.weight.copy_(attn.qkv.weight)
            self.qkv.bias.copy_(torch.zeros(3 * dim) if added is None else added)
            scale = attn.score_scale()[:, None, None] if isinstance(attn, WindowAttentionV2) else None
            if scale is None:
                for parameter in (self.qkv.weight, self.qkv.bias):
                    parameter[:dim] *= (dim // attn.num_heads) ** -0.5
            bias = attn.relative_position_bias(self.window_size)
            self.register_buffer("bias", bias + _shift_masks(self.window_size) if self.shifted else bias[None])
        self.register_buffer("logit_scale", scale)
        self.is_fixed = map_size is not None
        if map_size is not None:
            for name, value in self._any_places(map_size)._asdict().items():
                self.register_buffer(f"fixed_{name}", value)

    def places(self, map_size: Size) -> Places:
        """Where the tokens of a map go: the same for all blocks of a stage with the same shift."""
        if self.is_fixed:
            return Places(*(getattr(self, f"fixed_{name}") for name in Places._fields))
        return self._any_places(map_size)

    def _any_places(self, map_size: Size) -> Places:
        return Places.of(map_size, self.window_size, shifted=self.shifted, single_window=self.single_window)

    def forward(self, x: Float[Tensor, "B H W C"], places: Places) -> Float[Tensor, "B H W C"]:
        if self.norm_first:
            x = x + self._attend(self.norm1(x), places)
            return x + self._mlp(self.norm2(x))
        x = x + self.norm1(self._attend(x, places))
        return x + self.norm2(self._mlp(x))

    def _mlp(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        out: Tensor = self.mlp.fc2(F.gelu(self.mlp.fc1(x)))
        return out

    def _attend(self, x: Float[Tensor, "B H W C"], places: Places) -> Float[Tensor, "B H W C"]:
        batch, height, width, dim = x.shape
        heads, slots = self.num_heads, self.window_size[0] * self.window_size[1]
        tokens = torch.cat([x.flatten(1, 2), x.new_zeros(batch, 1, dim)], dim=1)
        windows = tokens.index_select(1, places.source).view(-1, slots, dim)
        q, k, v = (
            part.reshape(-1, slots, heads, dim // heads).transpose(1, 2)
            for part in self.qkv(windows).split(dim, dim=-1)
        )  # (B * windows, heads, N, head_dim)
        if self.logit_scale is not None:
            q, k = F.normalize(q, dim=-1) * self.logit_scale, F.normalize(k, dim=-1)
        scores, bias = q @ k.transpose(-2, -1), self.bias
        if self.single_window == "unshift":
            bias = bias + places.absent
        if self.shifted:
            bias = bias.index_select(0, places.kind).flatten(0, 1)  # (windows * heads, N, N), for every image
            scores = (scores.view(batch, -1, slots, slots) + bias).view(-1, heads, slots, slots)
        else:
            scores = scores + bias
        out = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, -1, dim)
        projected: Tensor = self.proj(out.index_select(1, places.back))
        return projected.view(batch, height, width, dim)


def _shift_masks(window_size: Size) -> Float[Tensor, "4 1 N N"]:
    """What is added to the scores of windows that the shift cut not at all, between columns, between rows, and both."""
    rows, columns = (torch.arange(length) >= length - length // 2 for length in window_size)
    masks = []
    for kind in range(4):
        part = 2 * (rows & (kind >= 2)).long()[:, None] + (columns & (kind % 2 == 1))
        masks.append(MASKED_SCORE * (part.flatten()[:, None] != part.flatten()))
    return torch.stack(masks)[:, None]


class ExportedMerging(nn.Module):
    """`PatchMerging` for exporters, by four strided slices: some targets take no map of rank 6."""

    def __init__(self, merging: PatchMerging) -> None:
        super().__init__()
        self.norm_first, self.reduction, self.norm = merging.norm_first, merging.reduction, merging.norm

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w 2*C"]:
        x = pad_map(x, (2, 2))
        x = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1)
        out: Tensor = self.reduction(self.norm(x)) if self.norm_first else self.norm(self.reduction(x))
        return out


class ExportedPooling(nn.Module):
    """`AdaptiveAvgPool2d` to a grid for exporters, by a matrix for the rows and one for the columns."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C grid grid"]:
        rows, columns = self._means(x.shape[2], x), self._means(x.shape[3], x)
        return rows @ x @ columns.t()

    def _means(self, length: int, like: Tensor) -> Float[Tensor, "grid length"]:
        """Bin i has the cells from floor(i * length / grid) to ceil((i + 1) * length / grid)."""
        bins, cells = torch.arange(self.grid)[:, None], torch.arange(length)
        start = torch.div(bins * length, self.grid, rounding_mode="floor")
        end = torch.div((bins + 1) * length + self.grid - 1, self.grid, rounding_mode="floor")
        return ((cells >= start) & (cells < end)).to(like.dtype) / (end - start)
