"""How much a classifier computes, in closed form: no model is built and no torch imported."""

from __future__ import annotations

from ..sizes import Size
from ..window_rule import choose_window
from .config import SwinConfig, find_variant


def count_flops(config: SwinConfig, image_size: int | Size, num_classes: int = 1000) -> int:
    """Multiply-adds of one image, by the rule behind the published figures.

    The rule is that of the official `flops()` methods: one multiply-add counts once, norms count one a value, and the
    softmax, GELU, residual adds and V2's bias MLP count nothing. Where a map is not a whole number of windows, scores
    are counted for the padded windows and projections for the real tokens.

    Args:
        config: the backbone.
        image_size: pixels (height, width); an int means square.
        num_classes: outputs of the head; 0 for none.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    height, width = -(-height // config.patch_size[0]), -(-width // config.patch_size[1])
    tokens = height * width
    patch_area = config.patch_size[0] * config.patch_size[1]
    total = tokens * config.embed_dim * (config.in_channels * patch_area + 1)  # + 1: the norm
    # The official rule divides the first map by 2 ** stages for the last norm; the last map is smaller. We keep it.
    final_norm = config.stage_dims[-1] * tokens // 2 ** len(config.depths)

    for stage, (dim, depth) in enumerate(zip(config.stage_dims, config.depths, strict=True)):
        total += depth * _block_flops(config, dim, (height, width))
        if stage == len(config.depths) - 1:
            break
        norm = height * width * dim // (1 if config.version == 1 else 2)
        height, width = -(-height // 2), -(-width // 2)
        total += norm + height * width * 4 * dim * 2 * dim
    return total + final_norm + config.stage_dims[-1] * num_classes


def variant_flops(name: str, num_classes: int = 1000) -> int:
    """`count_flops` of a published variant at the image size it was trained for."""
    variant = find_variant(name)
    return count_flops(variant.config, variant.image_size, num_classes)


def _block_flops(config: SwinConfig, dim: int, map_size: Size) -> int:
    height, width = map_size
    (window_height, window_width), _ = choose_window(
        map_size, config.window_size, shifted=False, single_window=config.single_window
    )
    window_tokens = window_height * window_width
    padded_tokens = -(-height // window_height) * -(-width // window_width) * window_tokens
    projections = height * width * 4 * dim * dim
    scores = 2 * padded_tokens * window_tokens * dim
    mlp = 2 * height * width * dim * int(dim * config.mlp_ratio)
    norms = 2 * height * width * dim
    return projections + scores + mlp + norms
