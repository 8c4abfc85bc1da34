"""From an image with its segments to what a mask transformer trains on, with the random changes of its authors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from ...ops.regions.instances import MaskTargets
from ...weights.preprocessing import DensePreprocessing
from ..images.chance import happens, random_factor, random_place
from ..images.dense_transforms import as_byte_array, normalize_bytes, resize_bytes, resize_labels
from ..images.filled import filled
from ..images.photometric import distort
from ..samples import PanopticSample
from .augmentation import PanopticAugmentation


class PanopticTrainingTransform:
    """Random changes of an image and its segments, then normalisation: the authors', for Mask2Former.

    Resize by a random factor, crop, flip, change of colours, pad, normalise. Images are resized as the preprocessing
    has it, ids of segments to the nearest pixel, and colours are changed on 8 bits; of images that are not RGB,
    brightness and contrast alone. Crowds are left out. A segment of which a crop has left nothing stays, with an empty
    mask, as it does in the authors' code.

    Attributes:
        preprocessing: normalisation and the kind of resize. Its `scale` is evaluation's; the augmentation has its own.
        augmentation: which random changes.
    """

    def __init__(self, preprocessing: DensePreprocessing, augmentation: PanopticAugmentation | None = None) -> None:
        self.preprocessing = preprocessing
        self.augmentation = (augmentation or PanopticAugmentation()).at(preprocessing.scale)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preprocessing!r}, {self.augmentation!r})"

    def __call__(
        self, sample: PanopticSample, generator: torch.Generator
    ) -> tuple[Float[Tensor, "C h w"], MaskTargets]:
        """One training image and its segments.

        Args:
            sample: an image and its segments, crowds among them.
            generator: where all chance comes from.

        Returns:
            The normalised image, and the masks of its segments; both of the augmentation's `crop_size` where it has
            one.
        """
        augmentation = self.augmentation
        image, ids = as_byte_array(sample.image, self.preprocessing.channels), sample.segment_ids
        size = self._random_size((image.shape[0], image.shape[1]), generator)
        if size != ids.shape:
            image = resize_bytes(image, size, self.preprocessing)
            ids = np.asarray(resize_labels(ids, size, self.preprocessing), dtype=np.int32)
        if augmentation.crop_size is not None:
            assert augmentation.crop_size != "auto", "it has been chosen"
            image, ids = self._crop(image, ids, augmentation.crop_size, generator)
        if happens(augmentation.flip_prob, generator):
            image, ids = image[:, ::-1], ids[:, ::-1]
        if augmentation.photometric:
            image = distort(image, generator)
        if augmentation.crop_size is not None:
            image = filled(image, augmentation.crop_size)
            ids = filled(ids, augmentation.crop_size, 0)
        learnt = np.flatnonzero(~sample.crowd)
        masks = torch.from_numpy(np.ascontiguousarray(ids)) == torch.from_numpy(learnt + 1).int()[:, None, None]
        targets = MaskTargets(labels=torch.from_numpy(sample.labels[learnt]), masks=masks)
        return normalize_bytes(image, self.preprocessing), targets

    def _random_size(self, size: tuple[int, int], generator: torch.Generator) -> tuple[int, int]:
        augmentation = self.augmentation
        ratio = random_factor(augmentation.ratio_range, augmentation.ratio_step, generator)
        if augmentation.scale is None:
            height, width = (max(int(side * ratio + 0.5), 1) for side in size)
            return height, width
        assert augmentation.scale != "auto", "it has been chosen"
        rounding = 0.5 if augmentation.ratio_step is None else 0.0  # the authors cut their steps to whole pixels
        long, short = (max(int(side * ratio + rounding), 1) for side in augmentation.scale)
        long = max(augmentation.max_long or long, short)
        return replace(self.preprocessing, scale=(long, short)).resized(size)

    def _crop(
        self,
        image: UInt8[np.ndarray, "H W C"],
        ids: Int32[np.ndarray, "H W"],
        size: tuple[int, int],
        generator: torch.Generator,
    ) -> tuple[UInt8[np.ndarray, "h w C"], Int32[np.ndarray, "h w"]]:
        """As much of a random part of that size as there is."""
        is_diagonal = self.augmentation.crop_place == "diagonal"
        top, left = random_place((ids.shape[0], ids.shape[1]), size, generator, diagonal=is_diagonal)
        rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
        return image[rows, columns], ids[rows, columns]
