"""What a segmenter minimises: cross entropy or focal loss of each pixel, and Dice loss beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

from ..labels import IGNORED
from ..ops.resized_sum import sum_over_resized
from .shapes import Losses


@dataclass(frozen=True, kw_only=True)
class PixelLosses:
    """The losses of a head's logits. The defaults are the official recipe's.

    Attributes:
        focal_gamma: 0 is cross entropy; above it the focal loss (arXiv 1708.02002, of softmax): pixels whose class is
            foretold with probability p count (1 - p)^gamma as much.
        class_weights: what pixels of each class count; None for 1.
        dice_weight: the weight of the Dice loss; 0 leaves it out.
    """

    focal_gamma: float = 0.0
    class_weights: tuple[float, ...] | None = None
    dice_weight: float = 0.0

    def __call__(self, logits: Float[Tensor, "B classes h w"], labels: Integer[Tensor, "B H W"]) -> Losses:
        """The losses by name, of logits resized to the labels, in float32 whatever the logits' type.

        255 marks pixels that do not count: their loss is 0, but they count in the mean over ALL pixels, as in the
        official code; `F.cross_entropy` leaves them out.

        Raises:
            ValueError: the batches differ, or labels are no maps.
        """
        if len(logits) != len(labels) or labels.ndim != 3:
            raise ValueError(
                f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; give one label map an image"
            )
        truth, size = labels.long(), (labels.shape[1], labels.shape[2])
        if truth.numel() == 0:
            raise ValueError(f"labels have shape {tuple(labels.shape)}: there is no pixel to learn from")

        def of_band(resized: Float[Tensor, "1 classes rows W"], image: int, rows: slice) -> Float[Tensor, ""]:
            return self._of_pixels(resized, truth[image : image + 1, rows]).sum()

        name = "loss_focal" if self.focal_gamma else "loss_ce"
        if not self.dice_weight:
            return {name: sum_over_resized(logits.float(), size, of_band) / truth.numel()}
        # Dice loss is of the whole batch, so that the resized logits exist anyway.
        resized = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
        dice = self.dice_weight * dice_loss(resized, truth, truth != IGNORED)
        return {name: self._of_pixels(resized, truth).mean(), "loss_dice": dice}

    def _of_pixels(
        self, logits: Float[Tensor, "B classes H W"], truth: Integer[Tensor, "B H W"]
    ) -> Float[Tensor, "B H W"]:
        weight = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        loss = F.cross_entropy(logits, truth, weight=weight, ignore_index=IGNORED, reduction="none")
        if self.focal_gamma:
            known = truth.where(truth != IGNORED, 0).unsqueeze(1)
            missed = 1 - logits.softmax(dim=1).gather(1, known).squeeze(1)
            # The square root and its like have no derivative at 0.
            loss = loss * missed.clamp(min=1e-6) ** self.focal_gamma
        return loss


def dice_loss(
    logits: Float[Tensor, "B classes H W"], labels: Integer[Tensor, "B H W"], counts: Bool[Tensor, "B H W"]
) -> Float[Tensor, ""]:
    """1 - 2 |p g| / (|p| + |g|) of the probabilities p and the truth g (arXiv 1606.04797), over the batch's pixels
    that count; the mean over the classes that occur there, 0 where none does.
    """
    classes = logits.shape[1]
    probabilities = logits.softmax(dim=1).movedim(1, -1)[counts]
    truth = F.one_hot(labels[counts], classes).to(logits.dtype)
    there = truth.sum(dim=0)
    shares = 2 * (probabilities * truth).sum(dim=0) / (probabilities.sum(dim=0) + there).clamp(min=1e-6)
    return torch.where(there > 0, 1 - shares, 0).sum() / (there > 0).sum().clamp(min=1)
