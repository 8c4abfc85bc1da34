"""What a Mask2Former trains on: images with a mask for each object or class, from what other models of a task take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..labels import IGNORED
from ..ops.padding import pad_batch
from ..ops.regions.instances import InstanceTargets, MaskTargets


@dataclass(frozen=True, kw_only=True)
class MaskBatch:
    """Training images of any sizes as one batch.

    Attributes:
        images: normalised, each at the top left of its place, zeros beyond.
        targets: the masks of each image, of its own size or of the batch's.
    """

    images: Float[Tensor, "B C H W"]
    targets: list[MaskTargets]

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device | str) -> MaskBatch:
        """The same on another device."""
        return MaskBatch(images=self.images.to(device), targets=[target.to(device) for target in self.targets])


def collate_masks(items: Sequence[tuple[Float[Tensor, "C _h _w"], MaskTargets]], size_divisor: int = 32) -> MaskBatch:
    """Images and their masks as one batch: padded to the largest of them, to multiples of `size_divisor`.

    Raises:
        ValueError: there are no images.
    """
    images = pad_batch([pixels for pixels, _ in items], size_divisor)
    return MaskBatch(images=images, targets=[target for _, target in items])


def collate_objects(
    items: Sequence[tuple[Float[Tensor, "C _h _w"], InstanceTargets]], size_divisor: int = 32
) -> MaskBatch:
    """Images and their objects as one batch, likewise.

    Objects without a pixel are dropped: a crop may leave the box of one, and a small scale nothing of it. (So does the
    authors' code for COCO; that for ADE20K leaves them in.)
    """
    images = pad_batch([pixels for pixels, _ in items], size_divisor)
    return MaskBatch(images=images, targets=[_objects(target) for _, target in items])


def collate_classes(
    items: Sequence[tuple[Float[Tensor, "C _h _w"], UInt8[Tensor, "_h _w"]]], size_divisor: int = 32
) -> MaskBatch:
    """Images and label maps as one batch, likewise; each class in a label map is a mask, but for 255."""
    images = pad_batch([pixels for pixels, _ in items], size_divisor)
    return MaskBatch(images=images, targets=[_classes(labels) for _, labels in items])


def _objects(target: InstanceTargets) -> MaskTargets:
    masks = target.masks.bool()
    kept = masks.flatten(1).any(dim=1)
    return MaskTargets(labels=target.labels[kept], masks=masks[kept])


def _classes(labels: UInt8[Tensor, "h w"]) -> MaskTargets:
    found = labels.unique()
    found = found[found != IGNORED]
    return MaskTargets(labels=found.long(), masks=labels == found[:, None, None])
