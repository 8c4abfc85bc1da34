"""The classification head's loss: cross entropy against probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def smooth_targets(labels: Int[Tensor, " B"], num_classes: int, smoothing: float = 0.0) -> Float[Tensor, "B classes"]:
    """Probabilities of the classes: 1 - `smoothing` for the label, and `smoothing` spread evenly over all classes."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels.unsqueeze(1), 1.0 - smoothing + smoothing / num_classes)


def soft_cross_entropy(logits: Float[Tensor, "B classes"], targets: Float[Tensor, "B classes"]) -> Float[Tensor, ""]:
    """Mean over the batch of the cross entropy, in nats, in float32 whatever the logits' type.

    Raises:
        ValueError: the shapes differ.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits have shape {tuple(logits.shape)} and targets {tuple(targets.shape)}; give the same")
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()
