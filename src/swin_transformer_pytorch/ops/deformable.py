"""Multi-scale deformable attention (arXiv 2010.04159, section 4.1): a query reads a few places of each map.

Plain PyTorch, for every device, with gradients by autograd; what other implementations are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..sizes import Size


def deformable_attention(
    value: Float[Tensor, "B N heads D"],
    map_sizes: Sequence[Size],
    locations: Float[Tensor, "B Q heads levels points 2"],
    weights: Float[Tensor, "B Q heads levels points"],
) -> Float[Tensor, "B Q channels"]:
    """For each query and head the weighted sum of values, each read bilinearly from a place of a map.

    Args:
        value: the tokens of all maps, one map after the other, each row by row.
        map_sizes: (height, width) of each map.
        locations: where to look, (x, y): 0 is the left or upper edge of a map, 1 the right or lower one, so that the
            centre of column i of w is at (i + 0.5) / w. Beyond the centres of the outer cells values fade to 0.
        weights: of each place; what they sum to is the caller's affair.

    Returns:
        heads * D channels, head by head, of the type of `value`; halves are computed in float32.

    Raises:
        ValueError: the maps are not those of `value` or `locations`.
    """
    batch, tokens, heads, channels = value.shape
    _check(tokens, map_sizes, locations.shape[3])
    dtype = torch.promote_types(value.dtype, torch.float32)
    maps = value.to(dtype).permute(0, 2, 3, 1).split([height * width for height, width in map_sizes], dim=3)
    # To grid_sample -1 and 1 are the edges, and a head is an image.
    grids = (2 * locations.to(dtype) - 1).transpose(1, 2).flatten(0, 1)  # (B * heads, Q, levels, points, 2)
    shares = weights.to(dtype).transpose(1, 2).flatten(0, 1).unsqueeze(1)  # (B * heads, 1, Q, levels, points)
    sums = []
    for level, (of_map, (height, width)) in enumerate(zip(maps, map_sizes, strict=True)):
        of_heads = of_map.reshape(batch * heads, channels, height, width)
        read = F.grid_sample(of_heads, grids[:, :, level], mode="bilinear", padding_mode="zeros", align_corners=False)
        sums.append((read * shares[:, :, :, level]).sum(dim=3))  # (B * heads, D, Q)
    total = torch.stack(sums).sum(dim=0)
    return total.unflatten(0, (batch, heads)).flatten(1, 2).transpose(1, 2).to(value.dtype)


def _check(tokens: int, map_sizes: Sequence[Size], levels: int) -> None:
    if len(map_sizes) != levels:
        raise ValueError(f"{len(map_sizes)} map_sizes for locations in {levels} maps; give a size for each map")
    if sum(height * width for height, width in map_sizes) != tokens:
        raise ValueError(
            f"value has {tokens} tokens, and maps of {', '.join(f'{h} x {w}' for h, w in map_sizes)} have another "
            "number; give (height, width) of each map"
        )
