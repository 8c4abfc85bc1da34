"""From an image with its label map to what a segmenter trains on, with the random changes of the official recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from ...labels import IGNORED
from ...ops.padding import pad_batch
from ...ops.resize import resize_nearest
from ...weights.preprocessing import DensePreprocessing
from ..images.chance import random_factor, random_place, uniform
from ..images.dense_transforms import as_byte_array, normalize_bytes, resize_bytes
from ..images.filled import filled
from ..images.photometric import distort
from ..samples import SegmentationSample
from .augmentation import SegmentationAugmentation

_CROP_RETRIES = 10


@dataclass(frozen=True, kw_only=True)
class SegmentationBatch:
    """Training images and their label maps.

    Attributes:
        images: normalised.
        labels: class indices; 255 is ignored.
    """

    images: Float[Tensor, "B C H W"]
    labels: Int64[Tensor, "B H W"]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> SegmentationBatch:
        """The same on another device."""
        return SegmentationBatch(images=self.images.to(device), labels=self.labels.to(device))


def collate_segmentation(
    items: Sequence[tuple[Float[Tensor, "C _h _w"], UInt8[Tensor, "_h _w"]]], size_divisor: int = 1
) -> SegmentationBatch:
    """Prepared images and label maps as one batch; smaller ones are padded at the right and bottom, with label 255.

    Raises:
        ValueError: there are no images.
    """
    images = pad_batch([pixels for pixels, _ in items], size_divisor)
    labels = torch.full((len(items), *images.shape[2:]), IGNORED, dtype=torch.int64)
    for place, (_, item) in zip(labels, items, strict=True):
        place[: item.shape[0], : item.shape[1]] = item
    return SegmentationBatch(images=images, labels=labels)


class SegmentationTrainingTransform:
    """Random changes of an image and its label map, then normalisation: the official recipe's, for UPerNet on Swin.

    Resize by a random factor, crop without one class taking nearly all of it, flip, photometric distortion, normalise,
    pad, in Mask2Former's recipes pad, normalise. Images are resized as evaluation's are, label maps to the nearest
    pixel, and colours are changed on 8 bits; of images that are not RGB, brightness and contrast alone.

    Attributes:
        preprocessing: normalisation. Its `scale` is evaluation's; the augmentation has its own.
        augmentation: which random changes.
    """

    def __init__(self, preprocessing: DensePreprocessing, augmentation: SegmentationAugmentation | None = None) -> None:
        self.preprocessing = preprocessing
        self.augmentation = (augmentation or SegmentationAugmentation()).at(preprocessing.scale)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preprocessing!r}, {self.augmentation!r})"

    def __call__(
        self, sample: SegmentationSample, generator: torch.Generator
    ) -> tuple[Float[Tensor, "C h w"], UInt8[Tensor, "h w"]]:
        """One training image and its label map.

        Args:
            sample: an image and its label map.
            generator: where all chance comes from.

        Returns:
            The normalised image and its labels, 255 where there are none; both of the augmentation's `crop_size`
            where it has one.
        """
        augmentation = self.augmentation
        assert augmentation.crop_size != "auto", "it has been chosen"
        image, labels = as_byte_array(sample.image, self.preprocessing.channels), sample.labels
        size = self._random_size((image.shape[0], image.shape[1]), generator)
        image = resize_bytes(image, size, self.preprocessing)
        # As OpenCV does it, whatever the image: detectron2's maps of classes are floats, resized by PyTorch as that is.
        labels = np.asarray(resize_nearest(labels, size), dtype=np.uint8)
        if augmentation.crop_size is not None:
            top, left = random_crop(labels, augmentation.crop_size, augmentation.cat_max_ratio, generator)
            rows, columns = (
                slice(start, start + side) for start, side in zip((top, left), augmentation.crop_size, strict=True)
            )
            image, labels = image[rows, columns], labels[rows, columns]
        if uniform(0, 1, generator) < augmentation.flip_prob:
            image, labels = image[:, ::-1], labels[:, ::-1]
        if augmentation.photometric:
            image = distort(image, generator)
        if augmentation.crop_size is not None and augmentation.pad_value is not None:
            image = filled(image, augmentation.crop_size, augmentation.pad_value)
        pixels = normalize_bytes(image, self.preprocessing)
        return _padded(pixels, torch.from_numpy(np.ascontiguousarray(labels)), augmentation.crop_size)

    def _random_size(self, size: tuple[int, int], generator: torch.Generator) -> tuple[int, int]:
        augmentation = self.augmentation
        ratio = random_factor(augmentation.ratio_range, augmentation.ratio_step, generator)
        if augmentation.scale is None:
            height, width = (max(int(side * ratio + 0.5), 1) for side in size)
            return height, width
        assert augmentation.scale != "auto", "it has been chosen"
        long, short = (max(int(side * ratio), 1) for side in augmentation.scale)
        return replace(self.preprocessing, scale=(augmentation.max_long or long, short)).resized(size)


def random_crop(
    labels: UInt8[np.ndarray, "H W"], size: tuple[int, int], cat_max_ratio: float, generator: torch.Generator
) -> tuple[int, int]:
    """(top, left) of a random part of `size` (height, width), or as much of it as there is.

    As long as one class has `cat_max_ratio` or more of the part's labelled pixels, or there is one class or none, it is
    drawn again, ten times at most; the last draw is taken as it is, as in the official code.
    """
    whole = (labels.shape[0], labels.shape[1])
    place = random_place(whole, size, generator)
    if cat_max_ratio < 1:
        for _ in range(_CROP_RETRIES):
            top, left = place
            part = labels[top : top + size[0], left : left + size[1]]
            counts = np.bincount(part.ravel(), minlength=256)[:IGNORED]
            if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < cat_max_ratio:
                break
            place = random_place(whole, size, generator)
    return place


def _padded(
    pixels: Float[Tensor, "C h w"], labels: UInt8[Tensor, "h w"], size: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    """Both filled up at the right and the bottom, with 0 and 255, to `size` (height, width), as far as they are not."""
    if size is None or labels.shape == size:
        return pixels, labels

    def pad(part: Tensor, value: int) -> Tensor:
        return torch.nn.functional.pad(part, (0, size[1] - part.shape[-1], 0, size[0] - part.shape[-2]), value=value)

    return pad(pixels, 0), pad(labels, IGNORED)
