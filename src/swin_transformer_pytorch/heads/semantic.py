"""HTC's semantic branch: one map that tells every region what surrounds it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from ..labels import IGNORED
from .conv import ConvModule, init_kaiming
from .shapes import Maps

LABEL_STRIDE = 8


class SemanticHead(nn.Module):
    """All pyramid maps on the grid of one, summed, then convolutions (Hybrid Task Cascade, arXiv 1901.07518, 3.3).

    A map is resized before its lateral convolution, not after, as the reference implementation does.

    Attributes:
        fused_level: the pyramid map whose grid the others take; 1 is the official choice, an eighth of the image.
    """

    class_layers = ("conv_logits",)  # whose rows are classes

    def __init__(self, *, channels: int, num_classes: int, num_levels: int = 5, fused_level: int = 1) -> None:
        super().__init__()
        self.fused_level = fused_level
        self.lateral_convs = nn.ModuleList(ConvModule(channels, channels, 1) for _ in range(num_levels))
        self.convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in range(4))
        self.conv_embedding = ConvModule(channels, channels, 1)
        self.conv_logits = nn.Conv2d(channels, num_classes, 1)
        init_kaiming([self.conv_logits])

    def fuse(self, features: Maps) -> Float[Tensor, "B C h w"]:
        """What logits and embedding are made from."""
        size = features[self.fused_level].shape[2:]
        fused = self.lateral_convs[self.fused_level](features[self.fused_level])
        for level, (conv, feature) in enumerate(zip(self.lateral_convs, features, strict=True)):
            if level != self.fused_level:
                fused = fused + conv(F.interpolate(feature, size=size, mode="bilinear", align_corners=True))
        for conv in self.convs:
            fused = conv(fused)
        return fused

    def embed(self, features: Maps) -> Float[Tensor, "B C h w"]:
        """The features that the box and mask heads add to theirs: all that a prediction needs."""
        return self.conv_embedding(self.fuse(features))

    def forward(self, features: Maps) -> tuple[Float[Tensor, "B classes h w"], Float[Tensor, "B C h w"]]:
        """Logits of each pixel's class, and what `embed` gives."""
        fused = self.fuse(features)
        return self.conv_logits(fused), self.conv_embedding(fused)


def semantic_loss(
    logits: Float[Tensor, "B classes h w"], labels: Int[Tensor, "B h w"], weight: float = 0.2
) -> Float[Tensor, ""]:
    """Cross entropy in nats, mean over the pixels whose label is not 255, times `weight`; 0 where there are none.

    Raises:
        ValueError: a label is beyond the classes.
    """
    counted = labels != IGNORED
    beyond = labels[counted & ((labels < 0) | (labels >= logits.shape[1]))]
    if len(beyond) > 0:
        raise ValueError(
            f"semantic label {int(beyond[0])} is beyond the {logits.shape[1]} classes of the semantic branch: create "
            f"the model with a larger num_semantic_classes, or mark the pixels to ignore with {IGNORED}"
        )
    summed = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
    return weight * summed / counted.sum().clamp(min=1)


def stack_semantic_labels(
    labels: Sequence[Integer[Tensor, "_ _"] | None], size: tuple[int, int], stride: int
) -> Int[Tensor, "B h w"]:
    """The label maps of a batch on the grid of the logits; what a smaller image does not cover is ignored.

    Args:
        labels: maps at an eighth of their images' sizes.
        size: of the logits.
        stride: pixels of the image to one cell of the logits. Where it is not 8, the nearest label is taken.

    Raises:
        ValueError: an image has no label map.
    """
    stacked = []
    for index, each in enumerate(labels):
        if each is None:
            raise ValueError(
                f"image {index} of the batch has no semantic labels, which HTC's semantic branch learns from: give "
                "InstanceTargets(semantic=...), or a data set with stuff maps (stuff_folder=...), or train "
                "cascade_mask_rcnn, which needs none"
            )
        height, width = (torch.arange(length, device=each.device) * stride // LABEL_STRIDE for length in size)
        below, right = int(height[-1]) + 1 - each.shape[0], int(width[-1]) + 1 - each.shape[1]
        padded = F.pad(each.long(), (0, max(right, 0), 0, max(below, 0)), value=IGNORED)
        stacked.append(padded[height][:, width])
    return torch.stack(stacked)
