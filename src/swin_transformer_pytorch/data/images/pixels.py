"""An image in any form that a person has it in memory, as what the transforms work on."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from ...sizes import Size
from ..errors import ImageError
from .decode import read_image

ImageInput: TypeAlias = Image.Image | NDArray[np.uint8] | Tensor


def as_pixels(image: ImageInput, channels: int, white_level: int | None = None) -> Image.Image | Float[Tensor, "C H W"]:
    """An image in any form as what the transforms work on, with the channels that the model takes.

    A PIL image of 16 bits becomes one of 8 by the white level, see `read_image`.

    Returns:
        A PIL image "L" or "RGB" for 8-bit pixels of 1 or 3 channels, else a float tensor (C, H, W) in [0, 1].

    Raises:
        ImageError: the shape, type or range is none that an image has.
    """
    if isinstance(image, Image.Image):
        # What `read_image` gave is not read twice; a file's lazily opened image is of a subclass.
        ready = type(image) is Image.Image and not image.info and image.mode == {1: "L", 3: "RGB"}.get(channels)
        return image if ready else read_image(image, channels, white_level=white_level)
    if isinstance(image, np.ndarray):
        image = _tensor_from_array(image)
    if not isinstance(image, Tensor):
        raise ImageError(
            f"an image cannot be a {type(image).__name__}; give a PIL image, a uint8 array or a tensor, "
            "and to a Predictor also a path, bytes or a list of these"
        )
    if image.ndim == 2:
        image = image.unsqueeze(0)
    if image.ndim != 3 or image.numel() == 0:
        hint = "; give a batch as a list, list(images)" if image.ndim == 4 else ""
        raise ImageError(f"one image as a tensor is (channels, height, width), not {tuple(image.shape)}{hint}")
    if image.shape[0] != channels and image.shape[0] not in (1, 3, 4):
        raise ImageError(
            f"the image has {image.shape[0]} channels (shape {tuple(image.shape)}) and the model takes {channels}; "
            "give a tensor (channels, height, width) that fits"
        )
    if image.dtype == torch.uint8:
        if channels in (1, 3) and image.shape[0] in (1, 3, 4):
            return read_image(F.to_pil_image(image.cpu()), channels)
        image = image.float() / 255
    return _match_channels(_checked_range(image), channels)


def height_width(pixels: Image.Image | Tensor) -> Size:
    """Pixels of an image (..., height, width)."""
    if isinstance(pixels, Tensor):
        return pixels.shape[-2], pixels.shape[-1]
    return pixels.height, pixels.width


def as_picture(pixels: Image.Image | Tensor) -> Image.Image:
    """An image (C, H, W) to look at: of channels that are neither grey nor RGB the first three, or the first."""
    if isinstance(pixels, Image.Image):
        return pixels
    shown = pixels[: 3 if len(pixels) >= 3 else 1]
    return F.to_pil_image(shown if shown.dtype == torch.uint8 else shown.mul(255).round().to(torch.uint8))


def _tensor_from_array(array: NDArray[np.uint8]) -> Tensor:
    """(H, W) or (H, W, C) uint8 -> (C, H, W)."""
    if array.dtype != np.uint8:
        raise ImageError(
            f"an image array of type {array.dtype} is ambiguous; give uint8, or a float tensor (C, H, W) in [0, 1]"
        )
    if array.ndim not in (2, 3) or array.size == 0:
        raise ImageError(f"an image array of shape {array.shape} is none; give (height, width, channels)")
    if array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4) and array.shape[0] in (1, 3):
        raise ImageError(
            f"an image array of shape {array.shape} has its channels first; give (height, width, channels), or a tensor"
        )
    tensor = torch.from_numpy(np.array(array))  # a copy: the caller's may be read-only or negatively strided
    return tensor.unsqueeze(0) if tensor.ndim == 2 else tensor.permute(2, 0, 1)


def _checked_range(image: Tensor) -> Float[Tensor, "C H W"]:
    if not image.is_floating_point():
        raise ImageError(f"an image tensor of type {image.dtype} is ambiguous; give uint8, or float in [0, 1]")
    image = image.detach().float()
    low, high = image.min().item(), image.max().item()
    # False for NaN as well; a hair of rounding is let through.
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ImageError(
            f"the float image has values from {low:.4g} to {high:.4g}; give [0, 1], before any normalisation "
            "(divide 0 to 255 by 255, or give uint8)"
        )
    return image.clamp(0.0, 1.0)


def _match_channels(image: Float[Tensor, "C H W"], channels: int) -> Float[Tensor, "C H W"]:
    have = image.shape[0]
    if have == channels:
        return image
    if have == 4 and channels in (1, 3):  # RGBA over white, as in `read_image`
        image, have = image[:3] * image[3:] + (1 - image[3:]), 3
    if have == 3 and channels == 1:
        return F.rgb_to_grayscale(image)
    if have == 1 and channels == 3:
        return image.expand(3, -1, -1)
    if have != channels:
        raise ImageError(f"the image has {have} channels and the model takes {channels}; give a tensor that fits")
    return image
