"""The heads of Mask R-CNN (arXiv 1703.06870): one box head, one mask head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from ..ops.regions.instances import InstanceTargets
from ..sizes import Size
from .roi import BoxHead, MaskHead, stack_regions
from .roi_head import DetectionRules, Extract, RegionPredictions, RoIHead, predictions_by_image
from .roi_losses import BoxStage, box_losses, mask_loss
from .shapes import Losses, Maps, Regions


class StandardRoIHead(RoIHead):
    """One stage: proposals are classified and moved once."""

    def __init__(
        self,
        *,
        box_head: BoxHead,
        mask_head: MaskHead,
        strides: Sequence[int],
        num_classes: int,
        num_samples: int = 512,
        stage: BoxStage | None = None,
        rules: DetectionRules,
    ) -> None:
        super().__init__(strides=strides, num_classes=num_classes, num_samples=num_samples, rules=rules)
        self.bbox_head = box_head
        self.mask_head = mask_head
        self.stage = stage if stage is not None else BoxStage()
        if len(box_head.shared_convs) == 0:
            self.box_extractor = replace(self.box_extractor, flat=True)

    def forward_boxes(
        self, extract: Extract, proposals: Regions, image_sizes: Sequence[Size]
    ) -> list[RegionPredictions]:
        logits, deltas = self.bbox_head(extract(stack_regions(proposals)))
        return predictions_by_image(proposals, logits, deltas, self.stage)

    def all_mask_logits(self, x: Float[Tensor, "n C s s"]) -> list[Float[Tensor, "n classes m m"]]:
        return [self.mask_head(x)]

    def losses(
        self, features: Maps, proposals: Regions, targets: Sequence[InstanceTargets], image_sizes: Sequence[Size]
    ) -> Losses:
        """`loss_cls`, `loss_bbox`, `loss_mask`."""
        extract = self.extractors(features)
        samples = self._sample(proposals, targets, self.stage)
        logits, deltas = self.bbox_head(extract.boxes(stack_regions([sample.boxes for sample in samples])))
        losses = box_losses(logits, deltas, samples, stage=self.stage)
        positives = stack_regions([sample.positive_boxes for sample in samples])
        losses["loss_mask"] = mask_loss(self.mask_head(extract.masks(positives)), samples, targets)
        return losses
