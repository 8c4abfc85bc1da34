"""Padding up to a multiple, of lengths, of sizes, and of images into a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..sizes import Size


def padding(length: int, multiple: int) -> int:
    """What `length` lacks to a multiple. Without a modulo: symbolic sizes of an exported graph then stay simple."""
    return (length + multiple - 1) // multiple * multiple - length


def padded_size(image_size: Size, size_divisor: int) -> Size:
    """(height, width) rounded up to multiples of `size_divisor`."""
    height, width = image_size
    return height + padding(height, size_divisor), width + padding(width, size_divisor)


def pad_batch(images: Sequence[Float[Tensor, "C _h _w"]], size_divisor: int) -> Float[Tensor, "B C H W"]:
    """Normalised images of any sizes as one batch, zeros at the right and the bottom.

    Its sides are the largest ones of the images, rounded up to multiples of `size_divisor`.

    Raises:
        ValueError: there are no images.
    """
    if not images:
        raise ValueError("a batch of no images has no size; give at least one")
    height, width = padded_size((max(i.shape[1] for i in images), max(i.shape[2] for i in images)), size_divisor)
    if all(image.shape[1:] == (height, width) for image in images):
        return torch.stack(list(images))
    batch = images[0].new_zeros(len(images), images[0].shape[0], height, width)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch


def group_by_size(sizes: Sequence[Size]) -> list[list[int]]:
    """Places of the images that may share a batch, those of equal size, in the order of their first one."""
    groups: dict[Size, list[int]] = {}
    for place, size in enumerate(sizes):
        groups.setdefault(size, []).append(place)
    return list(groups.values())
