"""Region proposals (arXiv 1506.01497): the head, its proposals and its losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.regions.anchors import grid_anchors, usable_cells
from ..ops.regions.assign import assign, sample
from ..ops.regions.boxes import decode_boxes, encode_boxes
from ..ops.regions.instances import InstanceTargets
from ..ops.regions.nms import batched_nms
from ..sizes import Size
from .conv import convolved, init_normal
from .shapes import Losses, Maps


@dataclass(frozen=True, kw_only=True)
class ProposalLimits:
    """How many regions are looked at: of each level before suppression, and of the image after it."""

    per_level: int
    per_image: int
    nms_threshold: float = 0.7


@dataclass(frozen=True, kw_only=True)
class RPNRules:
    """What the head learns from and how many regions it proposes.

    Attributes:
        strides: pixels to a cell of each level, finest first.
        training: limits of the proposals that the other heads learn from.
        inference: limits otherwise.
        num_samples: anchors of an image that the losses look at, at most half of them positive.
        regression: the loss of the deltas; Smooth L1 has its corner at 1/9.
        inside_only: whether only anchors that lie wholly inside the image are learnt from (Cascade).
        size_divisor: images are padded to multiples of it before they are padded to a batch.
    """

    strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    training: ProposalLimits = ProposalLimits(per_level=2000, per_image=1000)
    inference: ProposalLimits = ProposalLimits(per_level=1000, per_image=1000)
    num_samples: int = 256
    regression: Literal["l1", "smooth_l1"] = "l1"
    inside_only: bool = False
    size_divisor: int = 32


@dataclass(frozen=True, kw_only=True)
class RPNOutputs:
    """Raw predictions for every anchor, levels one after the other, in the order of `grid_anchors`; float32.

    Attributes:
        logits: that the anchor holds an object.
        deltas: from the anchor to the object.
        map_sizes: (height, width) of each level.
    """

    logits: Float[Tensor, "B n"]
    deltas: Float[Tensor, "B n 4"]
    map_sizes: tuple[Size, ...]


class RPNHead(nn.Module):
    """One convolution for all levels, then for each cell and each of three anchors a logit and four deltas."""

    def __init__(self, channels: int, *, rules: RPNRules | None = None) -> None:
        super().__init__()
        self.rules = rules if rules is not None else RPNRules()
        self.rpn_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(channels, 3, 1)
        self.rpn_reg = nn.Conv2d(channels, 12, 1)
        init_normal([self.rpn_conv, self.rpn_cls, self.rpn_reg], std=0.01)

    def forward(self, features: Maps) -> RPNOutputs:
        logits, deltas = [], []
        for feature in features:
            x = convolved(self.rpn_conv, feature, relu=True)
            logits.append(convolved(self.rpn_cls, x).float().permute(0, 2, 3, 1).flatten(1))
            deltas.append(convolved(self.rpn_reg, x).float().permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
        return RPNOutputs(
            logits=torch.cat(logits, dim=1), deltas=torch.cat(deltas, dim=1), map_sizes=map_sizes(features)
        )

    def propose(
        self, outputs: RPNOutputs, image_sizes: Sequence[Size], *, training: bool
    ) -> list[Float[Tensor, "_ 4"]]:
        """Regions of each image, best first, in pixels of the input, inside the image; see `scored_proposals`."""
        limits = self.rules.training if training else self.rules.inference
        scored = scored_proposals(outputs, image_sizes, strides=self.rules.strides, limits=limits)
        return [boxes for boxes, _ in scored]

    def losses(self, outputs: RPNOutputs, targets: Sequence[InstanceTargets], image_sizes: Sequence[Size]) -> Losses:
        """`loss_rpn_cls` and `loss_rpn_bbox`: binary cross entropy of sampled anchors, and the regression loss of the
        positive ones among them.

        Both are sums over the batch, divided by the number of samples, an image counting at least one positive and
        one negative.
        """
        rules = self.rules
        anchors = torch.cat(grid_anchors(outputs.map_sizes, rules.strides, outputs.logits.device))
        classification = regression = outputs.logits.new_zeros(())
        regress = F.l1_loss if rules.regression == "l1" else partial(F.smooth_l1_loss, beta=1 / 9)
        num_samples = 0
        for logits, deltas, target, size in zip(outputs.logits, outputs.deltas, targets, image_sizes, strict=True):
            candidates = _learnable(anchors, outputs.map_sizes, size, rules).nonzero()[:, 0]
            boxes = target.boxes_xyxy.float()
            assignment = assign(anchors[candidates], boxes, positive=0.7, negative=0.3, minimum=0.3, low_quality=True)
            positives, negatives = sample(assignment, rules.num_samples, 0.5)
            num_samples += max(len(positives), 1) + max(len(negatives), 1)
            matched = boxes[assignment[positives] - 1]
            positives, negatives = candidates[positives], candidates[negatives]
            classification = classification + F.softplus(-logits[positives]).sum() + F.softplus(logits[negatives]).sum()
            wanted = encode_boxes(anchors[positives], matched)
            regression = regression + regress(deltas[positives], wanted, reduction="sum")
        return {"loss_rpn_cls": classification / max(num_samples, 1), "loss_rpn_bbox": regression / max(num_samples, 1)}


def map_sizes(features: Maps) -> tuple[Size, ...]:
    """(height, width) of each map."""
    return tuple((feature.shape[2], feature.shape[3]) for feature in features)


@torch.no_grad()
def scored_proposals(
    outputs: RPNOutputs, image_sizes: Sequence[Size], *, strides: Sequence[int], limits: ProposalLimits
) -> list[tuple[Float[Tensor, "_ 4"], Float[Tensor, " _"]]]:
    """Each image's regions, best first, and the probability of each to hold an object.

    They are the best anchors of each level, moved by their deltas and clipped to the image, those that no better one
    of the same level overlaps. There is no least size.
    """
    anchors = grid_anchors(outputs.map_sizes, strides, outputs.logits.device)
    lengths = [len(level) for level in anchors]
    proposals = []
    for logits, deltas, image_size in zip(outputs.logits, outputs.deltas, image_sizes, strict=True):
        kept = [_best(scores, limits.per_level) for scores in logits.sigmoid().split(lengths)]
        scores = torch.cat([values for values, _ in kept])
        regions = [
            decode_boxes(anchor[index], delta[index], image_size=image_size)
            for (_, index), anchor, delta in zip(kept, anchors, deltas.split(lengths), strict=True)
        ]
        levels = torch.repeat_interleave(torch.tensor([len(region) for region in regions])).to(scores.device)
        boxes = torch.cat(regions)
        best = batched_nms(boxes, scores, levels, limits.nms_threshold, limits.per_image)
        proposals.append((boxes[best], scores[best]))
    return proposals


def _best(scores: Float[Tensor, " n"], most: int) -> tuple[Tensor, Tensor]:
    """The `most` highest scores in falling order, equal ones in their own, and their indices; all, unsorted, if few.

    What a stable sort gives, without sorting the quarter of a million anchors of the finest level.
    """
    if len(scores) <= most:
        return scores, torch.arange(len(scores), device=scores.device)
    least = scores.topk(most, sorted=False).values.min()
    candidates = (scores >= least).nonzero()[:, 0]
    values, order = scores[candidates].sort(descending=True, stable=True)
    return values[:most], candidates[order[:most]]


def _learnable(
    anchors: Float[Tensor, "n 4"], map_sizes: Sequence[Size], image_size: Size, rules: RPNRules
) -> Bool[Tensor, " n"]:
    usable = usable_cells(map_sizes, rules.strides, image_size, rules.size_divisor, anchors.device)
    if rules.inside_only:
        height, width = image_size
        usable &= (anchors[:, :2] >= 0).all(dim=1) & (anchors[:, 2] < width) & (anchors[:, 3] < height)
    return usable
