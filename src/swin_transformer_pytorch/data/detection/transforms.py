"""From an image with its objects to what a detector trains on, with the random changes of the official recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from ...labels import IGNORED
from ...ops.padding import pad_batch, padded_size
from ...ops.regions.instances import InstanceTargets
from ...weights.preprocessing import DensePreprocessing
from ..images.chance import below, happens, random_place, uniform
from ..images.dense_transforms import as_byte_array, normalize_bytes, resize_bytes, resize_labels, scale_factor
from ..images.filled import filled
from ..images.photometric import distort
from ..samples import DetectionSample
from .augmentation import DetectionAugmentation
from .instaboost import instaboost

SEMANTIC_STRIDE = 8


@dataclass(frozen=True, kw_only=True)
class DetectionBatch:
    """Training images of any sizes as one batch.

    Attributes:
        images: normalised, each at the top left of its place, zeros beyond.
        image_sizes: pixels (height, width) of each image without the zeros.
        targets: the objects of each image, in its own pixels; masks have its own size, not the batch's. Semantic maps
            have an eighth of the batch's size, 255 beyond the image.
    """

    images: Float[Tensor, "B C H W"]
    image_sizes: list[tuple[int, int]]
    targets: list[InstanceTargets]

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device | str) -> DetectionBatch:
        """The same on another device."""
        targets = [target.to(device) for target in self.targets]
        return DetectionBatch(images=self.images.to(device), image_sizes=self.image_sizes, targets=targets)


def collate_detection(
    items: Sequence[tuple[Float[Tensor, "C _h _w"], InstanceTargets]], size_divisor: int = 32
) -> DetectionBatch:
    """Prepared images and their objects as one batch: padded to the largest of them, to multiples of `size_divisor`.

    Raises:
        ValueError: there are no images.
    """
    images = pad_batch([pixels for pixels, _ in items], size_divisor)
    sizes = [(pixels.shape[1], pixels.shape[2]) for pixels, _ in items]
    height, width = (-(-side // SEMANTIC_STRIDE) for side in images.shape[2:])
    targets = [_with_padded_semantic(target, height, width) for _, target in items]
    return DetectionBatch(images=images, image_sizes=sizes, targets=targets)


def aspect_groups(image_sizes: Sequence[tuple[int, int]]) -> list[int]:
    """1 for each image that is wider than high, else 0, from sizes (height, width).

    Batches of one group pad little: upright and wide images never meet.
    """
    return [int(width > height) for height, width in image_sizes]


class DetectionTrainingTransform:
    """Random changes of an image and its objects, then normalisation: the official recipe's, for Swin detectors.

    InstaBoost where it is on; flip; then, by chance, either a multi-scale resize, or a resize to a smaller scale, a
    random crop and that multi-scale resize; in Mask2Former's recipes a resize by jitter or to one of several scales, a
    part of a fixed size, and other colours. Images are resized as evaluation's are, masks and label maps to the nearest
    pixel; boxes are scaled by the same ratios and clipped. An object whose box has nothing left in a crop is dropped,
    and the box of one that is cut is not tightened around its mask; a crop may have no objects. Crowds are left out.
    Where the recipe pads label maps with class 0, we pad with 255, which is ignored.

    Attributes:
        preprocessing: normalisation; and the size where `augmentation.scales` is empty.
        augmentation: which random changes.
    """

    def __init__(self, preprocessing: DensePreprocessing, augmentation: DetectionAugmentation | None = None) -> None:
        self.preprocessing = preprocessing
        self.augmentation = (augmentation or DetectionAugmentation()).at(preprocessing.scale)
        if self.augmentation.instaboost and preprocessing.channels != 3:
            raise ValueError(
                f"InstaBoost is for RGB images, and this model takes {preprocessing.channels} channels; set the "
                "augmentation's instaboost to false (--data.augmentation.instaboost false)"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preprocessing!r}, {self.augmentation!r})"

    def __call__(
        self, sample: DetectionSample, generator: torch.Generator
    ) -> tuple[Float[Tensor, "C h w"], InstanceTargets]:
        """One training image and its objects.

        Args:
            sample: the image and its objects, crowds among them.
            generator: where all chance comes from.

        Returns:
            The normalised image, padded to `fixed_size` at most; its objects, and its semantic map at an eighth of the
            padded size where the sample has one.
        """
        augmentation = self.augmentation
        if augmentation.instaboost:
            sample = instaboost(sample, generator)
        scene = _Scene.of(sample, self.preprocessing)
        if happens(augmentation.flip_prob, generator):
            scene = scene.flip()
        if happens(augmentation.crop_prob, generator):
            scene = scene.resize(self._limits(augmentation.crop_scales, generator).resized(scene.size))
            scene = scene.crop(*_random_crop(scene.size, augmentation.crop_range, generator))
        if augmentation.jitter_range is None:
            scene = scene.resize(self._limits(augmentation.scales, generator).resized(scene.size))
        else:
            scene = scene.resize(self._jittered(scene.size, generator))
        if augmentation.fixed_size is not None:
            scene = scene.crop(*self._fixed_part(scene.size, generator))
        if augmentation.photometric:
            scene = replace(scene, image=distort(scene.image, generator))
        if augmentation.fixed_size is not None:
            scene = scene.fill(augmentation.fixed_size)
        targets = InstanceTargets(
            boxes_xyxy=scene.boxes.as_subclass(Tensor),
            labels=scene.labels,
            masks=scene.masks.as_subclass(Tensor),
            semantic=self._coarse(scene.semantic),
        )
        return normalize_bytes(scene.image, self.preprocessing), targets

    def _jittered(self, size: tuple[int, int], generator: torch.Generator) -> tuple[int, int]:
        """(height, width): as large as it fits into the fixed size times a random number."""
        fixed, factors = self.augmentation.fixed_size, self.augmentation.jitter_range
        assert fixed is not None and factors is not None, "it is asked for then alone"
        factor = uniform(*factors, generator)
        scale = min(most * factor / side for most, side in zip(fixed, size, strict=True))
        height, width = (max(round(side * scale), 1) for side in size)  # a half goes to the even number, as in numpy
        return height, width

    def _fixed_part(self, size: tuple[int, int], generator: torch.Generator) -> tuple[int, int, int, int]:
        """(top, left, height, width) of what is left; after a jitter one random number says both places."""
        assert self.augmentation.fixed_size is not None, "it is asked for then alone"
        height, width = (min(pair) for pair in zip(size, self.augmentation.fixed_size, strict=True))
        part = (height, width)
        return *random_place(size, part, generator, diagonal=self.augmentation.jitter_range is not None), *part

    def _limits(self, scales: tuple[int, ...] | str, generator: torch.Generator) -> DensePreprocessing:
        """The preprocessing with one of the scales."""
        max_long = self.augmentation.max_long
        assert not isinstance(scales, str), "they have been chosen"
        assert max_long != "auto", "it has been chosen"
        if not scales:
            return self.preprocessing
        return replace(self.preprocessing, scale=(max_long, scales[below(len(scales), generator)]))

    def _coarse(self, semantic: tv_tensors.Mask | None) -> UInt8[Tensor, "h w"] | None:
        """The label of each eighth pixel of the padded image."""
        if semantic is None:
            return None
        height, width = (
            -(-side // SEMANTIC_STRIDE) for side in padded_size(semantic.shape, self.preprocessing.size_divisor)
        )
        return _padded(semantic.as_subclass(Tensor)[::SEMANTIC_STRIDE, ::SEMANTIC_STRIDE], height, width)


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """An image and what lies on it, between two steps. `preprocessing` says how it is resized."""

    preprocessing: DensePreprocessing
    image: UInt8[np.ndarray, "H W C"]
    boxes: tv_tensors.BoundingBoxes
    labels: Tensor
    masks: tv_tensors.Mask
    semantic: tv_tensors.Mask | None

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    @classmethod
    def of(cls, sample: DetectionSample, preprocessing: DensePreprocessing) -> _Scene:
        """A sample without its crowds."""
        image = as_byte_array(sample.image, preprocessing.channels)
        things = ~sample.crowd
        return cls(
            preprocessing=preprocessing,
            image=image,
            boxes=_boxes(torch.from_numpy(sample.boxes_xyxy[things]), (image.shape[0], image.shape[1])),
            labels=torch.from_numpy(sample.labels[things]),
            masks=tv_tensors.Mask(torch.from_numpy(sample.masks[things])),
            semantic=None if sample.semantic is None else tv_tensors.Mask(torch.from_numpy(np.array(sample.semantic))),
        )

    def flip(self) -> _Scene:
        """Left becomes right."""
        return replace(
            self,
            image=np.ascontiguousarray(self.image[:, ::-1]),
            boxes=F.horizontal_flip(self.boxes),
            masks=F.horizontal_flip(self.masks),
            semantic=None if self.semantic is None else F.horizontal_flip(self.semantic),
        )

    def crop(self, top: int, left: int, height: int, width: int) -> _Scene:
        """A part of it; objects with no box left are dropped."""
        boxes = F.crop(self.boxes, top, left, height, width)  # which clips them as well
        kept = _has_area(boxes)
        return replace(
            self,
            image=self.image[top : top + height, left : left + width],
            boxes=_boxes(boxes[kept], (height, width)),
            labels=self.labels[kept],
            masks=F.crop(tv_tensors.Mask(self.masks[kept]), top, left, height, width),
            semantic=None if self.semantic is None else F.crop(self.semantic, top, left, height, width),
        )

    def resize(self, size: tuple[int, int]) -> _Scene:
        """All of it at another size; boxes are clipped to it."""
        factor = torch.tensor(scale_factor(self.size, size))
        boxes = _boxes(self.boxes.as_subclass(Tensor) * factor, size)
        boxes = F.clamp_bounding_boxes(boxes)
        kept = _has_area(boxes)
        return replace(
            self,
            image=resize_bytes(self.image, size, self.preprocessing),
            boxes=_boxes(boxes[kept], size),
            labels=self.labels[kept],
            masks=self._resized(self.masks[kept], size),
            semantic=None if self.semantic is None else self._resized(self.semantic, size),
        )

    def _resized(self, masks: Tensor, size: tuple[int, int]) -> tv_tensors.Mask:
        return tv_tensors.Mask(torch.from_numpy(resize_labels(masks.numpy(), size, self.preprocessing)))

    def fill(self, size: tuple[int, int]) -> _Scene:
        """Grey at its right and below it; its label map is ignored there."""
        if size == self.size:
            return self
        padding = [0, 0, size[1] - self.size[1], size[0] - self.size[0]]
        return replace(
            self,
            image=filled(self.image, size),
            boxes=_boxes(self.boxes.as_subclass(Tensor), size),
            masks=F.pad(self.masks, padding),
            semantic=None if self.semantic is None else F.pad(self.semantic, padding, fill=IGNORED),
        )


def _boxes(boxes: Tensor, size: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)


def _has_area(boxes: Tensor) -> Tensor:
    plain = boxes.as_subclass(Tensor)
    return (plain[:, 2] > plain[:, 0]) & (plain[:, 3] > plain[:, 1])


def _random_crop(
    size: tuple[int, int], sides: tuple[int, int], generator: torch.Generator
) -> tuple[int, int, int, int]:
    """(top, left, height, width): each side from the range, as far as the image has it, then any place."""
    height, width = (
        min(side, sides[0]) + below(min(side, sides[1]) - min(side, sides[0]) + 1, generator) for side in size
    )
    return *random_place(size, (height, width), generator), height, width


def _padded(semantic: Tensor, height: int, width: int) -> Tensor:
    if semantic.shape == (height, width):
        return semantic.contiguous()
    result = semantic.new_full((height, width), IGNORED)
    result[: semantic.shape[0], : semantic.shape[1]] = semantic
    return result


def _with_padded_semantic(target: InstanceTargets, height: int, width: int) -> InstanceTargets:
    if target.semantic is None:
        return target
    return replace(target, semantic=_padded(target.semantic, height, width))
