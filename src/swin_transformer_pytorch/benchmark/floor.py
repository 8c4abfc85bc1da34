"""The floor: the time of a model's own matrix products alone, each taken by `F.linear`.

A model spends more, unless its products are faster than `F.linear`: prepacked weights can make them so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backbone.config import SwinConfig
from ..sizes import Size


@dataclass(frozen=True, kw_only=True)
class Product:
    """A linear layer at work: (rows, in_features) times (in_features, out_features), and a bias where it has one."""

    rows: int
    in_features: int
    out_features: int
    bias: bool

    @property
    def flops(self) -> int:
        """Multiplications and additions, each counted; the bias's are not."""
        return 2 * self.rows * self.in_features * self.out_features


def floor_products(config: SwinConfig, batch_size: int, image_size: Size, *, num_classes: int = 1000) -> list[Product]:
    """The products of the linear layers and the patch embedding in their order, from the config alone.

    What is inside the attention is not among them, nor is V2's bias MLP, whose result does not depend on the image.

    Args:
        config: the backbone.
        batch_size: images.
        image_size: pixels (height, width).
        num_classes: outputs of the head; 0 for none.
    """
    height, width = (-(-side // patch) for side, patch in zip(image_size, config.patch_size, strict=True))
    area = config.patch_size[0] * config.patch_size[1]
    shapes = [(batch_size * height * width, config.in_channels * area, config.embed_dim, True)]
    for stage, (dim, depth) in enumerate(zip(config.stage_dims, config.depths, strict=True)):
        tokens, hidden = batch_size * height * width, int(dim * config.mlp_ratio)
        shapes += depth * [
            (tokens, dim, 3 * dim, config.qkv_bias),
            (tokens, dim, dim, True),
            (tokens, dim, hidden, True),
            (tokens, hidden, dim, True),
        ]
        if stage < len(config.depths) - 1:
            height, width = -(-height // 2), -(-width // 2)
            shapes.append((batch_size * height * width, 4 * dim, 2 * dim, False))
    if num_classes:
        shapes.append((batch_size, config.stage_dims[-1], num_classes, True))
    return [Product(rows=r, in_features=i, out_features=o, bias=b) for r, i, o, b in shapes]


def floor_step(products: list[Product], dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    """All products in order, on random operands, their results dropped.

    Each layer has its own weights, as in a model, where they do not stay in the cache from one to the next.
    """

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device).to(dtype)

    inputs = {(p.rows, p.in_features): random(p.rows, p.in_features) for p in products}
    operands = [
        (
            inputs[p.rows, p.in_features],
            random(p.out_features, p.in_features),
            random(p.out_features) if p.bias else None,
        )
        for p in products
    ]

    def step() -> None:
        with torch.inference_mode():
            for x, weight, bias in operands:
                F.linear(x, weight, bias)
        wait(device)

    return step


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
