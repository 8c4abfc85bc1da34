"""Detection and instance segmentation: Mask R-CNN, Cascade Mask R-CNN and HTC on Swin."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..heads.fpn import FPN
from ..heads.global_attention import GlobalAttention
from ..heads.roi import BoxHead, MaskHead
from ..heads.roi_head import InstancePredictions, InstanceTargets, RoIHead
from ..heads.rpn import RPNHead
from ..heads.semantic import SemanticHead
from ..heads.shapes import Losses
from ..sizes import Size
from ..weights.adapt import ClassParameters
from ..weights.preprocessing import DensePreprocessing
from .backbone import SwinBackbone
from .config import DetectorConfig
from .description import check_length
from .named_classes import NamedClasses

__all__ = ["Detector", "InstancePredictions", "InstanceTargets"]


class Detector(NamedClasses):
    """A detector of two stages that gives boxes and masks, with the official parameter names.

    Images of different sizes are padded on the right and bottom to one size, `image_sizes` being their own (height,
    width): what lies beyond is never part of a prediction.

    Attributes:
        num_classes: classes of things; the background is none of them.
        classes: their names, or None.
        preprocessing: what the weights expect of an image, or None.
        name: the variant's official name, or None.
        global_attention: HTC++'s block on the last map, or None.
    """

    task = "detection"

    def __init__(
        self,
        config: DetectorConfig,
        *,
        backbone: SwinBackbone,
        neck: FPN,
        rpn_head: RPNHead,
        roi_head: RoIHead,
        global_attention: GlobalAttention | None = None,
        classes: Sequence[str] | None = None,
        preprocessing: DensePreprocessing | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.config: DetectorConfig = config
        self.preprocessing = preprocessing
        self.name = name
        backbone.channels_last = True  # as the heads' products on a CPU take maps
        self.backbone = backbone
        self.global_attention = global_attention
        self.neck = neck
        self.rpn_head = rpn_head
        self.roi_head = roi_head
        self.settle(classes)

    def reset_classifier(self, num_classes: int, *, classes: Sequence[str] | None = None) -> None:
        """Puts the last layers of boxes and masks in anew, with random weights, for other classes.

        HTC's semantic branch has classes of its own, which stay.

        Raises:
            ConfigError: `num_classes` is not possible, or there are not as many names.
        """
        config = self.config.replace(num_classes=num_classes)
        check_length("class names", classes, num_classes)
        for head in self.roi_head.modules():
            if isinstance(head, BoxHead | MaskHead):
                head.reset_classes(num_classes)
        self.config, self.roi_head.num_classes = config, num_classes
        self.settle(classes)

    def extract(self, images: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B D _ _"]]:
        """The feature pyramid, finest map first."""
        maps = self.backbone(images)
        if self.global_attention is not None:
            maps[-1] = self.global_attention(maps[-1])
        return self.neck(maps)

    @torch.no_grad()
    def forward(
        self,
        images: Float[Tensor, "B C H W"],
        image_sizes: Sequence[Size] | None = None,
        scale_factors: Sequence[Sequence[float]] | None = None,
    ) -> list[InstancePredictions]:
        """Each image's objects, in the pixels of the original image. For inference: no gradients, evaluation mode.

        Args:
            images: preprocessed, and padded to one size.
            image_sizes: (height, width) of each before padding; None where none is padded.
            scale_factors: (x, y, x, y) of each, resized over original side; None where none was resized.

        Raises:
            ValueError: there are not as many sizes or scale factors as images, or a size exceeds the images'.
        """
        sizes = checked_sizes(images, image_sizes)
        check_scale_factors(images, scale_factors)
        features = self.extract(images)
        proposals = self.rpn_head.propose(self.rpn_head(features), sizes, training=False)
        return self.roi_head.predict(features, proposals, sizes, scale_factors)

    def losses(
        self,
        images: Float[Tensor, "B C H W"],
        targets: Sequence[InstanceTargets],
        image_sizes: Sequence[Size] | None = None,
    ) -> Losses:
        """The losses of the proposals and of each head, by name; their sum is the training loss.

        Images without an object are learnt from too. Every parameter gets a gradient from every batch.

        Raises:
            ValueError: there are not as many targets or sizes as images, a size exceeds the images', or masks have
                another size than their image.
        """
        sizes = checked_sizes(images, image_sizes)
        if len(targets) != len(images):
            raise ValueError(f"{len(targets)} targets for {len(images)} images; give one an image")
        for target, size in zip(targets, sizes, strict=True):
            if tuple(target.masks.shape[1:]) != tuple(size):
                raise ValueError(
                    f"masks of {tuple(target.masks.shape[1:])} pixels for an image of {tuple(size)}: masks have the "
                    "size of the image before padding"
                )
        features = self.extract(images)
        outputs = self.rpn_head(features)
        losses = self.rpn_head.losses(outputs, targets, sizes)
        proposals = self.rpn_head.propose(outputs, sizes, training=True)
        return {**losses, **self.roi_head.losses(features, proposals, targets, sizes)}

    def class_parameters(self) -> tuple[ClassParameters, ...]:
        """Those whose rows are classes: of boxes and masks, and of HTC's semantic branch, which has its own."""
        things = ClassParameters(names=self._class_parameter_names(BoxHead, MaskHead), background=1)
        stuff = self._class_parameter_names(SemanticHead)
        return (things, ClassParameters(names=stuff, of="semantic branch")) if stuff else (things,)


def check_scale_factors(images: Float[Tensor, "B C H W"], scale_factors: Sequence[Sequence[float]] | None) -> None:
    """That there is one an image, if there are any."""
    if scale_factors is not None and len(scale_factors) != len(images):
        raise ValueError(f"{len(scale_factors)} scale_factors for {len(images)} images; give one an image")


def checked_sizes(images: Float[Tensor, "B C H W"], image_sizes: Sequence[Size] | None) -> list[Size]:
    """(height, width) of each image before padding."""
    padded = (images.shape[2], images.shape[3])
    sizes = [padded] * len(images) if image_sizes is None else [(int(size[0]), int(size[1])) for size in image_sizes]
    if len(sizes) != len(images):
        raise ValueError(f"{len(sizes)} image_sizes for {len(images)} images; give one an image")
    for size in sizes:
        if not (0 < size[0] <= padded[0] and 0 < size[1] <= padded[1]):
            raise ValueError(f"image_sizes has {size}, images are padded to {padded}: (height, width) before padding")
    return sizes
