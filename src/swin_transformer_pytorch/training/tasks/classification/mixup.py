"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of whole batches, as in the official recipe."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ....data.classification.augmentation import Augmentation

Images = Float[Tensor, "B C H W"]
Targets = Float[Tensor, "B classes"]


def mix(
    images: Images, targets: Targets, augmentation: Augmentation, generator: np.random.Generator
) -> tuple[Images, Targets]:
    """Mixes each image with its mirror place in the batch, and the targets in the same proportion.

    Args:
        images: the batch; unchanged.
        targets: probabilities of the classes.
        augmentation: its `mixup`, `cutmix`, `mixup_prob` and `switch_prob`.
        generator: where the randomness comes from.
    """
    mixup, cutmix = augmentation.mixup, augmentation.cutmix
    if not (mixup or cutmix) or generator.random() >= augmentation.mixup_prob:
        return images, targets
    use_cutmix = bool(cutmix) and (not mixup or generator.random() < augmentation.switch_prob)
    alpha = cutmix if use_cutmix else mixup
    keep = float(generator.beta(alpha, alpha))
    if use_cutmix:
        top, bottom, left, right = cut_box(images.shape[-2], images.shape[-1], keep, generator)
        keep = 1 - (bottom - top) * (right - left) / (images.shape[-2] * images.shape[-1])
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[..., top:bottom, left:right].flip(0)
    elif images.device.type == "cpu":
        # One image after the other: what is worked on stays in the cache, and no other batch is made.
        mixed = torch.empty_like(images)
        for image, other, out in zip(images, reversed(images.unbind(0)), mixed, strict=True):
            torch.mul(image, keep, out=out).add_(other * (1 - keep))
    else:
        mixed = images * keep + images.flip(0) * (1 - keep)
    return mixed, targets * keep + targets.flip(0) * (1 - keep)


def cut_box(height: int, width: int, keep: float, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """A random box (top, bottom, left, right) of 1 - `keep` of the area, less what lies beyond the image."""
    ratio = (1 - keep) ** 0.5
    box_height, box_width = int(height * ratio), int(width * ratio)
    row, column = int(generator.integers(height)), int(generator.integers(width))
    top, bottom = max(row - box_height // 2, 0), min(row + box_height // 2, height)
    left, right = max(column - box_width // 2, 0), min(column + box_width // 2, width)
    return top, bottom, left, right
