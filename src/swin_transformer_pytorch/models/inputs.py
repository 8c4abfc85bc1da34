"""What a model takes: pixels where its weights are; and how it was made of bytes."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ..weights.preprocessing import DensePreprocessing, Preprocessing


def model_input(model: nn.Module, pixels: Tensor) -> Tensor:
    """The pixels on the model's device and of its type."""
    like = next(model.parameters(), None)
    return pixels.to(like.device, like.dtype) if like is not None else pixels


def byte_scale(preprocessing: Preprocessing | DensePreprocessing) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    """What is subtracted from an image's bytes, and what they are then divided by, to normalise it."""
    factor = 255.0 if isinstance(preprocessing, Preprocessing) else 1.0
    return factor * torch.tensor(preprocessing.mean), factor * torch.tensor(preprocessing.std)


def as_bytes(
    images: Float[Tensor, "B C H W"], preprocessing: Preprocessing | DensePreprocessing
) -> UInt8[Tensor, "B H W C"]:
    """Normalised images as the bytes that they were made of, to the nearest one."""
    mean, std = byte_scale(preprocessing)
    return (images.permute(0, 2, 3, 1) * std + mean).round().clamp(0, 255).to(torch.uint8).contiguous()
