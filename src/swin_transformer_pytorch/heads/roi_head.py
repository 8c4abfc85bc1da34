"""What all heads of regions have in common: from features and proposals to losses, or to an image's objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..ops.regions.boxes import decode_boxes, scale_boxes, unscale_boxes
from ..ops.regions.instances import InstancePredictions, InstanceTargets
from ..ops.regions.nms import batched_nms
from ..ops.regions.soft_nms import soft_nms
from ..sizes import Size
from .roi import RegionExtractor, stack_regions
from .roi_losses import BoxStage, RegionSample, sample_regions
from .shapes import Losses, Maps, Regions

Extract = Callable[[Float[Tensor, "n 5"]], Float[Tensor, "n C s s"]]


@dataclass(frozen=True, kw_only=True)
class DetectionRules:
    """Which of the scored boxes of an image are its detections; see `DetectorConfig`."""

    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    soft_nms: bool = False


@dataclass(frozen=True, kw_only=True)
class RegionPredictions:
    """Raw predictions for one image's regions.

    Attributes:
        regions: what the deltas start from, in pixels of the input.
        logits: of the classes, the last being background.
        deltas: for each class, or one for all.
        stds: what the deltas are multiplied by.
    """

    regions: Float[Tensor, "n 4"]
    logits: Float[Tensor, "n classes"]
    deltas: Float[Tensor, "n boxes 4"]
    stds: tuple[float, float, float, float]


def predictions_by_image(
    regions: Regions, logits: Float[Tensor, "n classes"], deltas: Float[Tensor, "n boxes 4"], stage: BoxStage
) -> list[RegionPredictions]:
    """What a box head says of all images' regions, image by image."""
    lengths = [boxes.shape[0] for boxes in regions]
    return [
        RegionPredictions(regions=boxes, logits=rows, deltas=moves, stds=stage.stds)
        for boxes, rows, moves in zip(regions, logits.split(lengths), deltas.split(lengths), strict=True)
    ]


@dataclass(frozen=True)
class Extractors:
    """Features of regions, rows (image, x0, y0, x1, y1), for the box and for the mask heads."""

    boxes: Extract
    masks: Extract


def select_detections(
    predictions: RegionPredictions,
    image_size: Size,
    scale_factor: Sequence[float] | None = None,
    *,
    rules: DetectionRules,
) -> tuple[Float[Tensor, "k 4"], Float[Tensor, " k"], Int[Tensor, " k"]]:
    """Boxes in the original image's pixels, scores and labels of the detections, best first."""
    return suppress(*scored_boxes(predictions, image_size, scale_factor, rules.score_threshold), rules=rules)


def scored_boxes(
    predictions: RegionPredictions,
    image_size: Size,
    scale_factor: Sequence[float] | None,
    threshold: float,
) -> tuple[Float[Tensor, "n 4"], Float[Tensor, " n"], Int[Tensor, " n"]]:
    """What `suppress` selects from: boxes in the original image's pixels, scores and labels.

    Only pairs of region and class that score above the threshold are decoded; they are clipped to the input, then
    brought to the original image: only there are they suppressed.
    """
    probabilities = predictions.logits.float().softmax(dim=1)[:, :-1]
    region, label = (probabilities > threshold).nonzero(as_tuple=True)
    column = label if predictions.deltas.shape[1] > 1 else torch.zeros_like(label)
    deltas = predictions.deltas.float()[region, column]
    boxes = decode_boxes(predictions.regions[region], deltas, predictions.stds, image_size)
    if scale_factor is not None:
        boxes = unscale_boxes(boxes, scale_factor)
    return boxes, probabilities[region, label], label


def suppress(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], labels: Int[Tensor, " n"], *, rules: DetectionRules
) -> tuple[Float[Tensor, "k 4"], Float[Tensor, " k"], Int[Tensor, " k"]]:
    """The best boxes that no better one of their class overlaps; with soft NMS overlapped ones score less instead."""
    if rules.soft_nms:
        kept, scores = soft_nms(boxes, scores, labels, iou_threshold=rules.nms_threshold, max_kept=rules.max_detections)
    else:
        kept = batched_nms(boxes, scores, labels, rules.nms_threshold, rules.max_detections)
        scores = scores[kept]
    return boxes[kept], scores, labels[kept]


class RoIHead(nn.Module, ABC):
    """Base of the heads: each says how to get box predictions and mask logits, and its losses.

    Losses, raw predictions (`forward_boxes`, `forward_masks`) and post-processing (`select_detections`) are separate,
    so that testing at several scales can come in between.
    """

    def __init__(self, *, strides: Sequence[int], num_classes: int, num_samples: int, rules: DetectionRules) -> None:
        """
        Args:
            strides: pixels to a cell of the maps that regions look at, finest first.
            num_samples: regions of an image that the losses look at.
        """
        super().__init__()
        self.num_classes = num_classes
        self.num_samples = num_samples
        self.rules = rules
        self.box_extractor = RegionExtractor(strides=tuple(strides), output_size=7)
        self.mask_extractor = RegionExtractor(strides=tuple(strides), output_size=14)

    def extractors(self, features: Maps) -> Extractors:
        """Callables that give regions' features of these maps; what all regions share is computed once, here."""
        return Extractors(partial(self.box_extractor, features), partial(self.mask_extractor, features))

    @abstractmethod
    def forward_boxes(
        self, extract: Extract, proposals: Regions, image_sizes: Sequence[Size]
    ) -> list[RegionPredictions]:
        """Each image's raw box predictions."""

    @abstractmethod
    def all_mask_logits(self, x: Float[Tensor, "n C s s"]) -> list[Float[Tensor, "n classes m m"]]:
        """What each mask head predicts from the same features; inference averages their probabilities."""

    def forward_masks(
        self, extract: Extract, regions: Regions, labels: Sequence[Int[Tensor, " _"]]
    ) -> list[Float[Tensor, "_ m m"]]:
        """Each image's mask probabilities, for boxes in the input's pixels and their classes."""
        masks = chunked_mask_probabilities(
            extract,
            stack_regions(regions),
            torch.cat(list(labels)),
            self.all_mask_logits,
            grid_size=2 * self.mask_extractor.output_size,
        )
        return list(masks.split([len(boxes) for boxes in regions]))

    @abstractmethod
    def losses(
        self, features: Maps, proposals: Regions, targets: Sequence[InstanceTargets], image_sizes: Sequence[Size]
    ) -> Losses:
        """Named losses, already weighted: training minimises their sum."""

    def _sample(self, regions: Regions, targets: Sequence[InstanceTargets], stage: BoxStage) -> list[RegionSample]:
        return [
            sample_regions(boxes, target, stage=stage, num_classes=self.num_classes, num_samples=self.num_samples)
            for boxes, target in zip(regions, targets, strict=True)
        ]

    @torch.no_grad()
    def predict(
        self,
        features: Maps,
        proposals: Regions,
        image_sizes: Sequence[Size],
        scale_factors: Sequence[Sequence[float]] | None = None,
    ) -> list[InstancePredictions]:
        """Each image's objects in its original pixels; without scale factors those are the input's."""
        scales = scale_factors if scale_factors is not None else [(1.0, 1.0, 1.0, 1.0)] * len(image_sizes)
        extract = self.extractors(features)
        raw = self.forward_boxes(extract.boxes, proposals, image_sizes)
        found = [
            select_detections(predictions, image_size, scale, rules=self.rules)
            for predictions, image_size, scale in zip(raw, image_sizes, scales, strict=True)
        ]
        regions = [scale_boxes(boxes, scale) for (boxes, _, _), scale in zip(found, scales, strict=True)]
        masks = self.forward_masks(extract.masks, regions, [labels for _, _, labels in found])
        return [
            InstancePredictions(boxes_xyxy=boxes, scores=scores, labels=labels, masks=grids)
            for (boxes, scores, labels), grids in zip(found, masks, strict=True)
        ]


def chunked_mask_probabilities(
    extract: Extract,
    rois: Float[Tensor, "n 5"],
    labels: Int[Tensor, " n"],
    forward: Callable[[Float[Tensor, "k C s s"]], Sequence[Float[Tensor, "k classes m m"]]],
    *,
    grid_size: int,
    chunk: int = 32,
) -> Float[Tensor, "n m m"]:
    """Mean, over the heads that `forward` gives logits of, of the probabilities in each region's class.

    A few regions at a time: the upsampled features of a hundred would be the peak of a prediction's memory.
    """
    grids = [rois.new_zeros(0, grid_size, grid_size)]
    for part, classes in zip(rois.split(chunk), labels.split(chunk), strict=True):
        if len(part) == 0:
            continue
        rows = torch.arange(len(part), device=part.device)
        heads = [logits[rows, classes].float().sigmoid() for logits in forward(extract(part))]
        grids.append(torch.stack(heads).mean(dim=0) if len(heads) > 1 else heads[0])
    return torch.cat(grids)
