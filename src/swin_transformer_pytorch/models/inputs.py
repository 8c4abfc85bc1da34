"""What a model takes: pixels where its weights are."""

from __future__ import annotations

from torch import Tensor, nn


def model_input(model: nn.Module, pixels: Tensor) -> Tensor:
    """The pixels on the model's device and of its type."""
    like = next(model.parameters(), None)
    return pixels.to(like.device, like.dtype) if like is not None else pixels
