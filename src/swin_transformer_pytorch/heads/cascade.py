"""The heads of Cascade Mask R-CNN (arXiv 1906.09756): stages that each start from the boxes of the one before.

HTC is built on it: it hands in other `extractors`, chains its mask heads by `mask_logits`, and trains `interleaved`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..ops.regions.instances import InstanceTargets
from ..sizes import Size
from .roi import BoxHead, MaskHead, stack_regions
from .roi_head import DetectionRules, Extract, Extractors, RegionPredictions, RoIHead, predictions_by_image
from .roi_losses import BoxStage, box_losses, mask_loss, refine_boxes, refine_samples
from .shapes import Losses, Maps, Regions

CASCADE_STAGES = (
    BoxStage(iou=0.5, stds=(0.1, 0.1, 0.2, 0.2), low_quality=False, regression="giou", loss_weight=1.0),
    BoxStage(iou=0.6, stds=(0.05, 0.05, 0.1, 0.1), low_quality=False, regression="giou", loss_weight=0.5),
    BoxStage(iou=0.7, stds=(0.033, 0.033, 0.067, 0.067), low_quality=False, regression="giou", loss_weight=0.25),
)


class CascadeRoIHead(RoIHead):
    """Box and mask heads for each of several stages.

    The logits of the stages are averaged, the boxes are the last stage's, and so are the mask heads' probabilities
    averaged, all on the final boxes.
    """

    def __init__(
        self,
        *,
        box_heads: Sequence[BoxHead],
        mask_heads: Sequence[MaskHead],
        stages: Sequence[BoxStage],
        strides: Sequence[int],
        num_classes: int,
        num_samples: int = 512,
        interleaved: bool = False,
        rules: DetectionRules,
    ) -> None:
        """
        Args:
            interleaved: whether the mask head of a stage learns from the boxes that the stage's box head has refined,
                rather than from those that the box head starts from.
        """
        super().__init__(strides=strides, num_classes=num_classes, num_samples=num_samples, rules=rules)
        if not len(box_heads) == len(mask_heads) == len(stages) > 0:
            raise ValueError(
                f"{len(box_heads)} box heads and {len(mask_heads)} mask heads for {len(stages)} stages; give one of "
                "each a stage"
            )
        self.bbox_head = nn.ModuleList(box_heads)
        self.mask_head = nn.ModuleList(mask_heads)
        self.stages = tuple(stages)
        self.interleaved = interleaved

    def mask_logits(self, x: Float[Tensor, "n C s s"], stage: int) -> Float[Tensor, "n classes m m"]:
        """What the mask head of a stage predicts from regions' features; training calls it for each stage."""
        return self.mask_head[stage](x)

    def all_mask_logits(self, x: Float[Tensor, "n C s s"]) -> list[Float[Tensor, "n classes m m"]]:
        """What each stage's mask head predicts from the same features; inference averages their probabilities."""
        return [self.mask_logits(x, stage) for stage in range(len(self.stages))]

    def forward_boxes(
        self, extract: Extract, proposals: Regions, image_sizes: Sequence[Size]
    ) -> list[RegionPredictions]:
        """The last stage's regions and deltas, with the mean of all stages' logits."""
        regions = list(proposals)
        all_logits: list[Tensor] = []
        for head, stage in zip(self.bbox_head, self.stages, strict=True):
            logits, deltas = head(extract(stack_regions(regions)))
            all_logits.append(logits)
            found = zip(predictions_by_image(regions, logits, deltas, stage), image_sizes, strict=True)
            if len(all_logits) < len(self.stages):
                regions = [
                    refine_boxes(
                        one.regions, one.logits[:, :-1].argmax(dim=1), one.deltas, stds=one.stds, image_size=size
                    )
                    for one, size in found
                ]
        return predictions_by_image(regions, torch.stack(all_logits).mean(dim=0), deltas, stage)

    def shared_losses(self, features: Maps, targets: Sequence[InstanceTargets]) -> tuple[Extractors, Losses]:
        """Where training takes regions' features from, and the losses of what all stages share: here none."""
        return self.extractors(features), {}

    def losses(
        self, features: Maps, proposals: Regions, targets: Sequence[InstanceTargets], image_sizes: Sequence[Size]
    ) -> Losses:
        """`s{stage}.loss_cls`, `s{stage}.loss_bbox` and `s{stage}.loss_mask`, weighted by the stage."""
        extract, losses = self.shared_losses(features, targets)
        regions = list(proposals)
        last = len(self.stages) - 1
        for index, (head, stage) in enumerate(zip(self.bbox_head, self.stages, strict=True)):
            samples = self._sample(regions, targets, stage)
            logits, deltas = head(extract.boxes(stack_regions([sample.boxes for sample in samples])))
            found = box_losses(logits, deltas, samples, stage=stage)
            if index < last or self.interleaved:
                lengths = [len(sample.boxes) for sample in samples]
                parts = zip(samples, logits.split(lengths), deltas.split(lengths), image_sizes, strict=True)
                regions = [
                    refine_samples(sample, rows, moves, stage=stage, image_size=size)
                    for sample, rows, moves, size in parts
                ]
            if self.interleaved:
                samples = self._sample(regions, targets, stage)
            positives = stack_regions([sample.positive_boxes for sample in samples])
            found["loss_mask"] = mask_loss(self.mask_logits(extract.masks(positives), index), samples, targets)
            losses.update({f"s{index}.{name}": loss * stage.loss_weight for name, loss in found.items()})
        return losses
