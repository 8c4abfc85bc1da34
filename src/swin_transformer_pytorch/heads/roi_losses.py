"""What the heads of regions learn from, and their losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..ops.regions.assign import assign, sample
from ..ops.regions.boxes import decode_boxes, encode_boxes, generalized_iou
from ..ops.regions.instances import InstanceTargets
from ..ops.regions.masks import crop_masks
from .shapes import Losses

Regression = Literal["l1", "smooth_l1", "giou"]


@dataclass(frozen=True, kw_only=True)
class BoxStage:
    """How one stage of box regression learns, and what its deltas mean.

    Attributes:
        iou: a region is positive from this IoU on, else background.
        low_quality: whether an object also takes its best region, where their IoU is at least `iou`.
        stds: what the deltas are divided by.
        regression: the loss of the boxes: of the deltas (Smooth L1 has its corner at 1), or of the decoded boxes:
            generalised IoU, ten times as strong.
        loss_weight: of its box and mask losses.
    """

    iou: float = 0.5
    low_quality: bool = True
    stds: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    regression: Regression = "l1"
    loss_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RegionSample:
    """Regions of one image that the losses look at; positive ones come first.

    Attributes:
        boxes: in pixels of the input image.
        labels: class, or the number of classes for background.
        matched_boxes: for each positive region, its object's box.
        matched_indices: and its object's place among the targets.
        from_targets: whether the positive region is itself an object's box that was added to the proposals.
    """

    boxes: Float[Tensor, "n 4"]
    labels: Int[Tensor, " n"]
    matched_boxes: Float[Tensor, "p 4"]
    matched_indices: Int[Tensor, " p"]
    from_targets: Bool[Tensor, " p"]

    @property
    def positive_boxes(self) -> Float[Tensor, "p 4"]:
        return self.boxes[: len(self.matched_indices)]


@torch.no_grad()
def sample_regions(
    proposals: Float[Tensor, "k 4"],
    targets: InstanceTargets,
    *,
    stage: BoxStage,
    num_classes: int,
    num_samples: int,
    generator: torch.Generator | None = None,
) -> RegionSample:
    """The objects' own boxes and the proposals, of which at most `num_samples` are drawn, a quarter of them positive.

    Proposals are assigned first; each object's box then is its own object's, whatever it overlaps.
    """
    target_boxes, count = targets.boxes_xyxy.float(), len(targets)
    assignment = assign(
        proposals,
        target_boxes,
        positive=stage.iou,
        negative=stage.iou,
        minimum=stage.iou,
        low_quality=stage.low_quality,
    )
    own = torch.arange(1, count + 1, device=assignment.device)
    assignment = torch.cat([own, assignment])
    positives, negatives = sample(assignment, num_samples, 0.25, generator)
    matched = assignment[positives] - 1
    labels = torch.full((len(positives) + len(negatives),), num_classes, device=proposals.device)
    labels[: len(positives)] = targets.labels[matched]
    return RegionSample(
        boxes=torch.cat([target_boxes, proposals])[torch.cat([positives, negatives])],
        labels=labels,
        matched_boxes=target_boxes[matched],
        matched_indices=matched,
        from_targets=positives < count,
    )


def box_losses(
    logits: Float[Tensor, "n classes"],
    deltas: Float[Tensor, "n boxes 4"],
    samples: Sequence[RegionSample],
    *,
    stage: BoxStage,
) -> Losses:
    """`loss_cls`, the cross entropy, and `loss_bbox` of positive regions; both divided by the number of all samples.

    Rows are all images' samples, image by image. Neither is weighted by `stage.loss_weight` here.
    """
    labels = torch.cat([sample.labels for sample in samples])
    boxes = torch.cat([sample.boxes for sample in samples])
    matched = torch.cat([sample.matched_boxes for sample in samples])
    positive = (labels < logits.shape[1] - 1).nonzero()[:, 0]
    column = labels[positive] if deltas.shape[1] > 1 else torch.zeros_like(positive)
    predicted = deltas.float()[positive, column]
    if stage.regression == "giou":
        decoded = decode_boxes(boxes[positive], predicted, stage.stds)
        regression = (1 - generalized_iou(decoded, matched)).sum() * 10
    else:
        wanted = encode_boxes(boxes[positive], matched, stage.stds)
        loss = F.l1_loss if stage.regression == "l1" else F.smooth_l1_loss
        regression = loss(predicted, wanted, reduction="sum")
    count = max(len(labels), 1)
    return {
        "loss_cls": F.cross_entropy(logits.float(), labels, reduction="sum") / count,
        "loss_bbox": regression / count,
    }


def mask_loss(
    logits: Float[Tensor, "p classes m m"], samples: Sequence[RegionSample], targets: Sequence[InstanceTargets]
) -> Float[Tensor, ""]:
    """Mean binary cross entropy of the masks of positive regions, in the channel of their object's class.

    Rows are all images' positive regions, image by image; without one the loss is 0.
    """
    size = logits.shape[-1]
    wanted = torch.cat(
        [
            crop_masks(target.masks, sample.matched_indices, sample.positive_boxes, size)
            for sample, target in zip(samples, targets, strict=True)
        ]
    )
    labels = torch.cat([sample.labels[: len(sample.matched_indices)] for sample in samples])
    predicted = logits.float()[torch.arange(len(labels), device=labels.device), labels]
    loss = F.binary_cross_entropy_with_logits(predicted, wanted, reduction="sum")
    return loss / max(wanted.numel(), 1)


@torch.no_grad()
def refine_samples(
    sample: RegionSample,
    logits: Float[Tensor, "n classes"],
    deltas: Float[Tensor, "n boxes 4"],
    *,
    stage: BoxStage,
    image_size: tuple[int, int],
) -> Float[Tensor, "k 4"]:
    """The proposals of the next stage of a cascade: these regions moved by their deltas, clipped to the image.

    A positive region takes the deltas of its object's class, background those of its most likely class. Regions that
    were objects' boxes are left out: the next stage adds the objects anew.
    """
    background = logits.shape[1] - 1
    classes = torch.where(sample.labels == background, logits[:, :-1].argmax(dim=1), sample.labels)
    refined = refine_boxes(sample.boxes, classes, deltas, stds=stage.stds, image_size=image_size)
    keep = torch.ones(len(refined), dtype=torch.bool, device=refined.device)
    keep[: len(sample.from_targets)] = ~sample.from_targets
    return refined[keep]


def refine_boxes(
    boxes: Float[Tensor, "n 4"],
    classes: Int[Tensor, " n"],
    deltas: Float[Tensor, "n boxes 4"],
    *,
    stds: Sequence[float],
    image_size: tuple[int, int],
) -> Float[Tensor, "n 4"]:
    """Boxes moved by the deltas of a class each, clipped to the image."""
    column = classes if deltas.shape[1] > 1 else torch.zeros_like(classes)
    rows = torch.arange(boxes.shape[0], device=boxes.device)
    return decode_boxes(boxes, deltas.float()[rows, column], stds, image_size)
