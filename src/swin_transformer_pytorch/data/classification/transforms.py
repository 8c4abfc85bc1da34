"""A classifier's images as it takes them: for evaluation and, with random changes, for training."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import ColorJitter, RandomErasing, RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from ...sizes import Size
from ...weights.preprocessing import Preprocessing
from ..images.pixels import ImageInput, as_pixels, height_width
from .augmentation import Augmentation, RandAugmentPolicy
from .randaugment import RandAugment

_INTERPOLATION = {
    "bicubic": InterpolationMode.BICUBIC,
    "bilinear": InterpolationMode.BILINEAR,
    "nearest": InterpolationMode.NEAREST,
}
_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
# A resized image beyond this (a strip of 1 x 20,000 pixels would become 256 x 5,120,000) is never made whole.
_MAX_RESIZED_PIXELS = 64_000_000
# PIL crops larger images by a complaint, and those of twice the size not at all.
_MAX_CROPPED_PIXELS = 89_000_000


class EvaluationTransform:
    """Resize, centre crop, scale to [0, 1], normalise: the same numbers as torchvision's transforms on PIL images.

    The shorter side becomes `resize_size` and the longer one int(resize_size * longer / shorter), by PIL's
    antialiased filter. 8-bit images of 1 or 3 channels go through PIL in whatever form they come; others are resized
    by torch, with antialiasing, and stay on their device. Grey and RGB are converted into each other as the model
    needs. Where a resized image would exceed 64 million pixels, only the part that the crop keeps is computed, which
    may differ in the last of the 8 bits.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preprocessing!r})"

    def __call__(self, image: ImageInput) -> Float[Tensor, "C h w"]:
        pixels = as_pixels(image, self.preprocessing.channels, self.preprocessing.white_level)
        return normalize(self.resize_and_crop(pixels), self.preprocessing)

    def resize_and_crop(self, pixels: Image.Image | Tensor) -> Image.Image | Tensor:
        """The geometric half: a PIL image or float tensor (C, H, W) in [0, 1] -> the same of `image_size`."""
        target, size = self.preprocessing.image_size, self.preprocessing.resize_size
        height, width = height_width(pixels)
        if isinstance(size, int):
            scale = size / min(height, width)
            if height * width * scale * scale > _MAX_RESIZED_PIXELS:
                return _resize_centre(pixels, scale, self.preprocessing)
        mode = _INTERPOLATION[self.preprocessing.interpolation]
        sides = [size] if isinstance(size, int) else list(size)
        resized = F.resize(pixels, sides, interpolation=mode, antialias=True)
        if isinstance(resized, Tensor):
            # Bicubic overshoots at edges; PIL cuts that off as it rounds to 8 bits.
            resized = resized.clamp(0.0, 1.0)
        return F.center_crop(resized, list(target))

    def seen(self, image_size: Size) -> tuple[float, float, float, float]:
        """The part of an image of (height, width) that is kept: left, top, right and bottom in the image's pixels."""
        size, target = self.preprocessing.resize_size, self.preprocessing.image_size
        sides = [size * side / min(image_size) for side in image_size] if isinstance(size, int) else size
        edges: list[tuple[float, float]] = []
        for side, resized, kept in zip(image_size, map(int, sides), target, strict=True):
            start = round((resized - kept) / 2)  # as torchvision's crop
            edges.append((start * side / resized, (start + kept) * side / resized))
        (top, bottom), (left, right) = edges
        return left, top, right, bottom


class TrainingTransform:
    """Random changes, then scale to [0, 1] and normalise, as in the official ImageNet recipe.

    The order is timm's: crop, flip, RandAugment or colour jitter, normalise, erase. Randomness comes from torch's
    global CPU generator alone. Two deviations: the filter is always the preprocessing's own (the official recipe's
    is bicubic as well), and torchvision's rather than timm's random crop falls back on the centre where ten draws
    found none, so their random streams differ while the distributions are the same.

    Attributes:
        preprocessing: size, filter and normalisation.
        augmentation: which random changes; its mixup and CutMix concern whole batches and are not done here.
    """

    def __init__(self, preprocessing: Preprocessing, augmentation: Augmentation) -> None:
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        policy, jitter = augmentation.auto_augment, augmentation.color_jitter
        if preprocessing.channels not in (1, 3) and (policy is not None or jitter):
            raise ValueError(
                f"auto_augment={policy!r} and color_jitter={jitter} are for grey or RGB images, and this model takes "
                f"{preprocessing.channels} channels; set auto_augment to None and color_jitter to 0"
            )
        self._evaluation = EvaluationTransform(preprocessing)
        self._crop = RandomResizedCrop(
            preprocessing.image_size,
            scale=augmentation.crop_scale,
            ratio=augmentation.crop_ratio,
            interpolation=_INTERPOLATION[preprocessing.interpolation],
            antialias=True,
        )
        self._colour: nn.Module | RandAugment | None = None
        if policy is not None:
            fill = tuple(min(255, round(255 * value)) for value in preprocessing.mean)
            resample = _RESAMPLING[preprocessing.interpolation]
            self._colour = RandAugment(RandAugmentPolicy.parse(policy), fill=fill, resample=resample)
        elif jitter:
            self._colour = ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter)
        self._erase = RandomErasing(p=1.0, scale=(0.02, 1 / 3), value="random")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preprocessing!r}, {self.augmentation!r})"

    def __call__(self, image: ImageInput) -> Float[Tensor, "C h w"]:
        pixels = as_pixels(image, self.preprocessing.channels, self.preprocessing.white_level)
        pixels = self._random_crop(pixels)
        if torch.rand(()) < self.augmentation.flip_prob:
            pixels = F.horizontal_flip(pixels)
        if self._colour is not None:
            if isinstance(pixels, Tensor):  # colour operations are defined on 8 bits
                pixels = F.to_pil_image(pixels.mul(255).round().to(torch.uint8))
            pixels = self._colour(pixels)
        result = normalize(pixels, self.preprocessing)
        return self.erase(result) if torch.rand(()) < self.augmentation.erase_prob else result

    def erase(self, image: Float[Tensor, "C h w"]) -> Float[Tensor, "C h w"]:
        """Fills a random rectangle of a normalised image with normal noise, always."""
        erased: Tensor = self._erase(image)
        return erased

    def _random_crop(self, pixels: Image.Image | Tensor) -> Image.Image | Tensor:
        if self.augmentation.crop == "random_resized":
            while isinstance(pixels, Image.Image) and pixels.width * pixels.height > _MAX_CROPPED_PIXELS:
                pixels = pixels.reduce(2)
            cropped: Image.Image | Tensor = self._crop(pixels)
            return cropped.clamp(0.0, 1.0) if isinstance(cropped, Tensor) else cropped
        pixels = self._evaluation.resize_and_crop(pixels)
        padding = self.augmentation.crop_padding
        if self.augmentation.crop == "none" or padding == 0:
            return pixels
        top, left = torch.randint(2 * padding + 1, (2,)).tolist()
        return F.crop(F.pad(pixels, [padding]), top, left, *self.preprocessing.image_size)


def normalize(pixels: Image.Image | Tensor, preprocessing: Preprocessing) -> Float[Tensor, "... C h w"]:
    """Scales 8 bits to [0, 1] (floats are there already), subtracts the mean, divides by the standard deviation."""
    tensor = F.pil_to_tensor(pixels) if isinstance(pixels, Image.Image) else pixels
    if tensor.dtype == torch.uint8:
        # torchvision's v2 multiplies by 1/255, which differs in the last bit from the division of the official code.
        tensor = tensor.float().div_(255)
    return F.normalize(tensor, list(preprocessing.mean), list(preprocessing.std))


def _resize_centre(pixels: Image.Image | Tensor, scale: float, preprocessing: Preprocessing) -> Image.Image | Tensor:
    """Resize and centre crop in one: of a strip, only the part that remains is ever made."""
    height, width = height_width(pixels)
    target_height, target_width = preprocessing.image_size
    box_height, box_width = min(height, target_height / scale), min(width, target_width / scale)
    top, left = (height - box_height) / 2, (width - box_width) / 2
    box = (left, top, min(width, left + box_width), min(height, top + box_height))
    resample = _RESAMPLING[preprocessing.interpolation]
    if isinstance(pixels, Image.Image):
        return pixels.resize((target_width, target_height), resample, box)
    # PIL's float images take a box as well, one channel at a time.
    size = (target_width, target_height)
    planes = [Image.fromarray(plane).resize(size, resample, box) for plane in pixels.cpu().numpy()]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).clamp(0.0, 1.0).to(pixels.device)
