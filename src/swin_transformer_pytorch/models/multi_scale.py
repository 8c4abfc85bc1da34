"""Several views of one image, resized or mirrored, merged into one answer: mmdet's test-time augmentation.

Views agree on regions in three steps, each on the original image: proposals of all views are suppressed together;
every view then scores and moves the same proposals, and boxes and scores are averaged before the one suppression; every
view predicts masks of the same detections, and probabilities are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..heads.roi_head import DetectionRules, RegionPredictions, suppress
from ..heads.rpn import ProposalLimits
from ..ops.regions.boxes import decode_boxes, flip_boxes, scale_boxes, unscale_boxes
from ..ops.regions.nms import batched_nms
from ..sizes import Size


@dataclass(frozen=True, kw_only=True)
class View:
    """How a view of an image came about: resized, and then perhaps mirrored left to right.

    Attributes:
        image_size: its pixels (height, width), without padding.
        scale_factor: (x, y, x, y), its sides over those of the original image.
        flipped: whether it is mirrored.
    """

    image_size: Size
    scale_factor: tuple[float, float, float, float]
    flipped: bool = False

    def to_original(self, boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
        """Boxes in the view's pixels, in the original image's."""
        upright = flip_boxes(boxes, self.image_size[1]) if self.flipped else boxes
        return unscale_boxes(upright, self.scale_factor)

    def from_original(self, boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
        """Boxes in the original image's pixels, in the view's."""
        scaled = scale_boxes(boxes, self.scale_factor)
        return flip_boxes(scaled, self.image_size[1]) if self.flipped else scaled


def merge_proposals(
    proposals: Sequence[tuple[Float[Tensor, "_ 4"], Float[Tensor, " _"]]],
    views: Sequence[View],
    *,
    limits: ProposalLimits,
) -> Float[Tensor, "k 4"]:
    """All views' regions on the original image, those that no better one overlaps, best first."""
    boxes = torch.cat([view.to_original(boxes) for (boxes, _), view in zip(proposals, views, strict=True)])
    scores = torch.cat([scores for _, scores in proposals])
    one_group = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    return boxes[batched_nms(boxes, scores, one_group, limits.nms_threshold, limits.per_image)]


def merge_detections(
    predictions: Sequence[RegionPredictions], views: Sequence[View], *, rules: DetectionRules
) -> tuple[Float[Tensor, "k 4"], Float[Tensor, " k"], Int[Tensor, " k"]]:
    """Boxes in the original image's pixels, scores and labels of the detections, best first.

    Row i of every view is the same proposal. Its boxes, clipped to the view, and its probabilities are averaged.
    """
    boxes = torch.stack([_decoded(each, view) for each, view in zip(predictions, views, strict=True)]).mean(dim=0)
    probabilities = torch.stack([each.logits.float().softmax(dim=1)[:, :-1] for each in predictions]).mean(dim=0)
    region, label = (probabilities > rules.score_threshold).nonzero(as_tuple=True)
    column = label if boxes.shape[1] > 1 else torch.zeros_like(label)
    return suppress(boxes[region, column], probabilities[region, label], label, rules=rules)


def _decoded(predictions: RegionPredictions, view: View) -> Float[Tensor, "n boxes 4"]:
    regions = predictions.regions[:, None]
    return view.to_original(decode_boxes(regions, predictions.deltas.float(), predictions.stds, view.image_size))


def merge_masks(grids: Sequence[Float[Tensor, "n m m"]], views: Sequence[View]) -> Float[Tensor, "n m m"]:
    """Mean of the views' mask probabilities over the same boxes, those of mirrored views mirrored back."""
    upright = [grid.flip(2) if view.flipped else grid for grid, view in zip(grids, views, strict=True)]
    return torch.stack(upright).mean(dim=0)
