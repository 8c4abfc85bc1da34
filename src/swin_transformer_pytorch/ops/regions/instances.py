"""Objects of one image as tensors: what losses take, and what a detector gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class InstanceTargets:
    """The objects of one image that a detector learns from; crowds are left out.

    Attributes:
        boxes_xyxy: corners in pixels of the (resized, unpadded) input image.
        labels: class indices from 0; the background is none of them.
        masks: 0 or 1 for each pixel of the input image. Zero objects: (0, H, W).
        semantic: HTC only: the label of each pixel at an eighth of the input's padded size, 255 to ignore; else None.
    """

    boxes_xyxy: Float[Tensor, "n 4"]
    labels: Int[Tensor, " n"]
    masks: UInt8[Tensor, "n H W"]
    semantic: Int[Tensor, "h w"] | UInt8[Tensor, "h w"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> InstanceTargets:
        """The same on another device."""
        return InstanceTargets(
            boxes_xyxy=self.boxes_xyxy.to(device),
            labels=self.labels.to(device),
            masks=self.masks.to(device),
            semantic=None if self.semantic is None else self.semantic.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class InstancePredictions:
    """The objects that a detector found in one image, best first.

    Attributes:
        boxes_xyxy: corners in pixels of the original image.
        scores: in [0, 1].
        labels: class indices from 0.
        masks: probabilities on a grid over each box; `ops.masks.paste_masks` lays them on the image.
    """

    boxes_xyxy: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    labels: Int[Tensor, " n"]
    masks: Float[Tensor, "n m m"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class MaskTargets:
    """What a mask transformer learns of one image: a mask for each class, segment or object; crowds are left out.

    Attributes:
        labels: class indices from 0; none is none of them.
        masks: the pixels of each, of the batch's padded size. No masks: (0, H, W).
    """

    labels: Int[Tensor, " n"]
    masks: Bool[Tensor, "n H W"]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> MaskTargets:
        """The same on another device."""
        return MaskTargets(labels=self.labels.to(device), masks=self.masks.to(device))
