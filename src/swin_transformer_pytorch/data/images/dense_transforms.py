"""Images prepared for detectors and segmenters: OpenCV's or Pillow's resize, normalisation; no randomness."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...ops.resize import resize_bilinear_uint8, resize_nearest
from ...weights.preprocessing import DensePreprocessing
from .bands import read_pixels
from .decode import ImageSource
from .pixels import ImageInput, as_pixels


@dataclass(frozen=True, kw_only=True)
class PreparedImage:
    """One image as a dense model takes it, and what leads back to the image's own pixels.

    Attributes:
        pixels: normalised, resized, not padded.
        image_size: its pixels (height, width).
        original_size: pixels (height, width) before the resize.
        scale_factor: (x, y, x, y), new pixels over old ones as 32-bit floats give them: boxes on the original times
            this are boxes on `pixels`.
    """

    pixels: Float[Tensor, "C h w"]
    image_size: tuple[int, int]
    original_size: tuple[int, int]
    scale_factor: tuple[float, float, float, float]


class DenseTransform:
    """Evaluation's preprocessing of a detector or segmenter, with the numbers of the official code.

    The bytes are resized as OpenCV does it, with `antialias` as Pillow does it, then normalised as mmcv does it; see
    `normalize_bytes`. From decoded bytes on, every bit is the official code's, but for the last one of detectron2's,
    which divides by the deviation. Decoders of JPEG differ by a few levels, and we lay transparency over white (see
    `decode.read_image`) where OpenCV would drop it. Float tensors in [0, 1] are rounded to 8 bits first.
    """

    def __init__(self, preprocessing: DensePreprocessing) -> None:
        self.preprocessing = preprocessing

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preprocessing!r})"

    def __call__(self, image: ImageInput | ImageSource) -> PreparedImage:
        """Prepares one image: a path, a file's bytes, a PIL image, a uint8 array (H, W) or (H, W, C), or a tensor.

        Raises:
            ImageError: it cannot be read, or is of no form that an image has.
        """
        array = as_byte_array(image, self.preprocessing.channels, self.preprocessing.white_level)
        original_size = array.shape[0], array.shape[1]
        image_size = self.preprocessing.resized(original_size)
        return PreparedImage(
            pixels=normalize_bytes(resize_bytes(array, image_size, self.preprocessing), self.preprocessing),
            image_size=image_size,
            original_size=original_size,
            scale_factor=scale_factor(original_size, image_size),
        )


def as_byte_array(
    image: ImageInput | ImageSource, channels: int, white_level: int | None = None
) -> UInt8[np.ndarray, "H W C"]:
    """An image in any form as 8-bit pixels, of as many channels as the model takes; see `read_image`.

    Raises:
        ImageError: it cannot be read, or is of no form that an image has.
    """
    if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
        image = read_pixels(image, channels, white_level=white_level)
    pixels = as_pixels(image, channels, white_level)
    if isinstance(pixels, Image.Image):
        array = np.asarray(pixels)
        return array[:, :, None] if array.ndim == 2 else array
    return pixels.mul(255).round_().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def resize_bytes(
    image: UInt8[np.ndarray, "H W C"], size: tuple[int, int], preprocessing: DensePreprocessing
) -> UInt8[np.ndarray, "h w C"]:
    """The image at another size (height, width), as its preprocessing resizes it."""
    if not preprocessing.antialias:
        return resize_bilinear_uint8(image, size)
    channels = [Image.fromarray(np.ascontiguousarray(image[:, :, channel])) for channel in range(image.shape[2])]
    resized = [np.asarray(channel.resize((size[1], size[0]), Image.Resampling.BILINEAR)) for channel in channels]
    return np.stack(resized, axis=2)


def resize_labels(
    labels: NDArray[np.generic], size: tuple[int, int], preprocessing: DensePreprocessing
) -> NDArray[np.generic]:
    """Label maps, ids of segments or masks (..., H, W) at another size (height, width), to the nearest pixel.

    With `antialias` as Pillow does it, where the middle of a pixel decides; else as OpenCV, where its upper left corner
    does.
    """
    if not preprocessing.antialias:
        return resize_nearest(labels, size)
    rows, columns = (_nearest_middles(old, new) for old, new in zip(labels.shape[-2:], size, strict=True))
    return labels.take(rows, axis=-2).take(columns, axis=-1)


def _nearest_middles(old: int, new: int) -> NDArray[np.intp]:
    """The pixels, of `old`, that the middles of `new` ones lie in; added up step by step, as Pillow does it."""
    steps = np.full(new, old / new)
    steps[0] /= 2
    return np.cumsum(steps).astype(np.intp).clip(max=old - 1)


def normalize_bytes(image: UInt8[np.ndarray, "H W C"], preprocessing: DensePreprocessing) -> Float[Tensor, "C H W"]:
    """Subtracts the mean and multiplies by 1 / std, as `mmcv.imnormalize` does it with OpenCV.

    That is: a 32-bit difference, multiplied in 64 bits by the inverse of the 32-bit deviation, rounded to 32 bits.
    """
    table = _normalized_bytes(preprocessing.mean, preprocessing.std)
    result = np.empty((image.shape[2], image.shape[0], image.shape[1]), dtype=np.float32)
    for channel, values in enumerate(table):
        np.take(values, image[:, :, channel], out=result[channel], mode="clip")
    return torch.from_numpy(result)


def scale_factor(original_size: tuple[int, int], image_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(x, y, x, y): new pixels over old ones, each a 32-bit float, from sizes (height, width)."""
    x, y = (float(np.float32(image_size[side] / original_size[side])) for side in (1, 0))
    return x, y, x, y


@functools.cache
def _normalized_bytes(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """What each of the 256 levels becomes, for each channel."""
    levels = np.arange(256, dtype=np.float32)[None]
    difference = levels - np.array(mean, dtype=np.float32)[:, None]
    inverse = 1 / np.array(std, dtype=np.float32).astype(np.float64)[:, None]
    return (difference.astype(np.float64) * inverse).astype(np.float32)
