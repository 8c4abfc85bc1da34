"""Regions of interest: their features from a pyramid, and the box and mask heads on them (arXiv 1703.06870).

Regions of a batch are rows (image, x0, y0, x1, y1), the first column being the image's index as a float.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.regions.align import align_levels
from .conv import ConvModule, convolved, init_kaiming, init_normal, init_xavier, projected
from .shapes import Maps, Regions


def stack_regions(regions: Regions) -> Float[Tensor, "n 5"]:
    """All images' regions as rows (image, x0, y0, x1, y1), image by image."""
    return torch.cat([F.pad(boxes.float(), (1, 0), value=float(image)) for image, boxes in enumerate(regions)])


def region_levels(boxes: Float[Tensor, "n 4"], num_levels: int, finest_stride: int) -> Int[Tensor, " n"]:
    """The level of the pyramid that each box takes its features from, 0 being the finest.

    A box of 112 pixels a side is at level 1 where the finest stride is 4; twice the side is one level up
    (arXiv 1612.03144, section 4.2, counted from 0).
    """
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = torch.floor(torch.log2(side / (14 * finest_stride) + 1e-6))
    return level.clamp(0, num_levels - 1).long()


@dataclass(frozen=True, kw_only=True)
class RegionExtractor:
    """Features of regions, by `roi_align` with as many samples a cell as the region has pixels there.

    Attributes:
        strides: pixels to a cell of each level that regions look at, finest first; levels beyond them are not used.
        output_size: cells a side.
        flat: whether layers take the features as one vector, so that they should lie channel by channel in memory.
    """

    strides: tuple[int, ...]
    output_size: int
    flat: bool = False

    def __call__(self, features: Maps, rois: Float[Tensor, "n 5"]) -> Float[Tensor, "n C s s"]:
        """Computed in float32, as the official code does under automatic mixed precision too; of the maps' type."""
        levels = region_levels(rois[:, 1:], len(self.strides), self.strides[0])
        return align_levels(features, self.strides, rois, levels, self.output_size, flat=self.flat)


class BoxHead(nn.Module):
    """Convolutions (with norm), fully connected layers, then the class and the deltas of each region.

    The official standard head has no convolution and two fully connected layers, Cascade's four and one. The last
    class, number `num_classes`, is background.
    """

    class_layers = ("fc_cls", "fc_reg")  # whose rows are classes

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        fc_dim: int = 1024,
        num_convs: int = 0,
        num_fcs: int = 2,
        class_agnostic: bool = False,
        region_size: int = 7,
    ) -> None:
        super().__init__()
        self.shared_convs = nn.ModuleList(ConvModule(in_channels, in_channels, 3, norm=True) for _ in range(num_convs))
        dims = [in_channels * region_size**2, *[fc_dim] * num_fcs]
        self.shared_fcs = nn.ModuleList(nn.Linear(dims[i], dims[i + 1]) for i in range(num_fcs))
        self.fc_dim, self.class_agnostic = dims[-1], class_agnostic
        self._make_class_layers(num_classes)
        init_xavier(module for module in self.shared_fcs if isinstance(module, nn.Linear))
        self._init_class_layers()

    def _make_class_layers(self, num_classes: int) -> None:
        self.fc_cls = nn.Linear(self.fc_dim, num_classes + 1)
        self.fc_reg = nn.Linear(self.fc_dim, 4 if self.class_agnostic else 4 * num_classes)

    def _init_class_layers(self) -> None:
        init_normal([self.fc_cls], std=0.01)
        init_normal([self.fc_reg], std=0.001)

    def reset_classes(self, num_classes: int) -> None:
        """Layers with random weights for that many classes."""
        like = next(self.shared_fcs.parameters())
        self._make_class_layers(num_classes)
        self._init_class_layers()
        self.to(like).train(self.training)

    def forward(self, x: Float[Tensor, "n C s s"]) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n boxes 4"]]:
        """Logits (num_classes + 1) and deltas (one box a class, or one where `class_agnostic`), in float32."""
        for conv in self.shared_convs:
            x = conv(x)
        x = x.flatten(1)
        for fc in self.shared_fcs:
            x = F.relu(projected(fc, x), inplace=True)
        return projected(self.fc_cls, x).float(), projected(self.fc_reg, x).float().unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """Four convolutions, an upsampling by 2, and for each class the logits of the region's mask."""

    class_layers = ("conv_logits",)  # whose rows are classes

    def __init__(self, in_channels: int, *, num_classes: int, num_convs: int = 4) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvModule(in_channels, in_channels, 3) for _ in range(num_convs))
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)
        self.in_channels = in_channels
        self.conv_logits = nn.Conv2d(in_channels, num_classes, 1)
        init_kaiming([self.upsample, self.conv_logits])

    def reset_classes(self, num_classes: int) -> None:
        """A layer with random weights for that many classes."""
        layer = nn.Conv2d(self.in_channels, num_classes, 1)
        init_kaiming([layer])
        self.conv_logits = layer.to(next(self.parameters())).train(self.training)

    def forward_convs(self, x: Float[Tensor, "n C s s"]) -> Float[Tensor, "n C s s"]:
        """The features before the upsampling, which HTC passes on."""
        for conv in self.convs:
            x = conv(x)
        return x

    def forward_logits(self, x: Float[Tensor, "n C s s"]) -> Float[Tensor, "n classes m m"]:
        """Logits in float32 on a grid of twice the side, from what `forward_convs` gave."""
        return convolved(self.conv_logits, F.relu(self.upsample(x), inplace=True)).float()

    def forward(self, x: Float[Tensor, "n C s s"]) -> Float[Tensor, "n classes m m"]:
        return self.forward_logits(self.forward_convs(x))
