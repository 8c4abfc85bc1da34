"""The preprocessing that belongs to a model's weights, for evaluation and, with random changes, for training."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, overload, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import ColorJitter, RandomErasing, RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from ..weights.preprocessing import Preprocessing
from .augmentation import Augmentation, RandAugmentPolicy
from .decode import read_image
from .errors import ImageError
from .randaugment import RandAugment

ImageInput: TypeAlias = Image.Image | NDArray[np.uint8] | Tensor

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


@runtime_checkable
class HasPreprocessing(Protocol):
    """A model, or anything else, that knows what its weights expect of an image."""

    preprocessing: Preprocessing | None


@overload
def create_transform(
    model: nn.Module | Preprocessing, train: Literal[False] = False, augment: Augmentation | None = None
) -> EvaluationTransform: ...
@overload
def create_transform(
    model: nn.Module | Preprocessing, train: Literal[True], augment: Augmentation | None = None
) -> TrainingTransform: ...
def create_transform(
    model: nn.Module | Preprocessing, train: bool = False, augment: Augmentation | None = None
) -> EvaluationTransform | TrainingTransform:
    """The preprocessing that belongs to a model's weights.

    Args:
        model: a model with `.preprocessing`, or a `Preprocessing`.
        train: whether to make the random changes of training.
        augment: which of them; None for the official ImageNet recipe's. Only for `train=True`.

    Returns:
        A callable: PIL image, uint8 array (H, W), (H, W, C) or tensor (C, H, W), or float tensor (C, H, W) in [0, 1]
        -> float tensor (C, h, w) as the model takes it, h and w being `preprocessing.image_size`.

    Raises:
        ValueError: the model has no preprocessing, or `augment` is given for evaluation.
    """
    preprocessing = model if isinstance(model, Preprocessing) else find_preprocessing(model)
    if train:
        return TrainingTransform(preprocessing, augment or Augmentation())
    if augment is not None:
        raise ValueError(f"augment={augment!r} is for training; pass train=True, or leave it out")
    return EvaluationTransform(preprocessing)


def find_preprocessing(model: nn.Module) -> Preprocessing:
    """The model's preprocessing, or a `ValueError` that tells how to give it one."""
    preprocessing = model.preprocessing if isinstance(model, HasPreprocessing) else None
    if preprocessing is None:
        raise ValueError(
            f"this {type(model).__name__} does not say how its images are prepared; set model.preprocessing = "
            "Preprocessing.imagenet(224), or another Preprocessing (swin_transformer_pytorch.weights.preprocessing)"
        )
    return preprocessing


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
        return normalize(self.resize_and_crop(as_pixels(image, self.preprocessing.channels)), self.preprocessing)

    def resize_and_crop(self, pixels: Image.Image | Tensor) -> Image.Image | Tensor:
        """The geometric half: a PIL image or float tensor (C, H, W) in [0, 1] -> the same of `image_size`."""
        target, size = self.preprocessing.image_size, self.preprocessing.resize_size
        height, width = _height_width(pixels)
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
        pixels = self._random_crop(as_pixels(image, self.preprocessing.channels))
        if torch.rand(()) < self.augmentation.hflip:
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
            cropped: Image.Image | Tensor = self._crop(pixels)
            return cropped.clamp(0.0, 1.0) if isinstance(cropped, Tensor) else cropped
        pixels = self._evaluation.resize_and_crop(pixels)
        padding = self.augmentation.crop_padding
        if self.augmentation.crop == "none" or padding == 0:
            return pixels
        top, left = torch.randint(2 * padding + 1, (2,)).tolist()
        return F.crop(F.pad(pixels, [padding]), top, left, *self.preprocessing.image_size)


def as_pixels(image: ImageInput, channels: int) -> Image.Image | Float[Tensor, "C H W"]:
    """An image in any form as what the transforms work on, with the channels that the model takes.

    Returns:
        A PIL image "L" or "RGB" for 8-bit pixels of 1 or 3 channels, else a float tensor (C, H, W) in [0, 1].

    Raises:
        ImageError: the shape, type or range is none that an image has.
    """
    if isinstance(image, Image.Image):
        # What `read_image` gave is not read twice; a file's lazily opened image is of a subclass.
        ready = type(image) is Image.Image and not image.info and image.mode == {1: "L", 3: "RGB"}.get(channels)
        return image if ready else read_image(image, channels)
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


def normalize(pixels: Image.Image | Tensor, preprocessing: Preprocessing) -> Float[Tensor, "... C h w"]:
    """Scales 8 bits to [0, 1] (floats are there already), subtracts the mean, divides by the standard deviation."""
    tensor = F.pil_to_tensor(pixels) if isinstance(pixels, Image.Image) else pixels
    if tensor.dtype == torch.uint8:
        # torchvision's v2 multiplies by 1/255, which differs in the last bit from the division of the official code.
        tensor = tensor.float().div_(255)
    return F.normalize(tensor, list(preprocessing.mean), list(preprocessing.std))


def _height_width(pixels: Image.Image | Tensor) -> tuple[int, int]:
    if isinstance(pixels, Tensor):
        return pixels.shape[-2], pixels.shape[-1]
    return pixels.height, pixels.width


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


def _resize_centre(pixels: Image.Image | Tensor, scale: float, preprocessing: Preprocessing) -> Image.Image | Tensor:
    """Resize and centre crop in one: of a strip, only the part that remains is ever made."""
    height, width = _height_width(pixels)
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
