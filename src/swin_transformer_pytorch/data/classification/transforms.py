"""A classifier's images as it takes them: for evaluation and, with random changes, for training."""

from __future__ import annotations

import functools
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import ColorJitter, RandomErasing, RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from ...ops.cpu import resample
from ...sizes import Size
from ...weights.preprocessing import Preprocessing
from ..images.opened import HeldImage, OpenedImage, Pixels, as_bytes, as_image, as_whole, cut, size_of
from ..images.pixels import ImageInput, as_picture, as_pixels, height_width
from .augmentation import Augmentation, RandAugmentPolicy
from .randaugment import Picture, RandAugment

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
Box: TypeAlias = tuple[int, int, int, int]
"""Top, left, height and width of a part of an image, in its pixels."""

# A resized image beyond this (a strip of 1 x 20,000 pixels would become 256 x 5,120,000) is never made whole.
_MAX_RESIZED_PIXELS = 64_000_000
# PIL crops larger images by a complaint, and those of twice the size not at all.
_MAX_CROPPED_PIXELS = 89_000_000


class EvaluationTransform:
    """Resize, centre crop, scale to [0, 1], normalise: the same numbers as torchvision's transforms on PIL images.

    The shorter side becomes `resize_size` and the longer one int(resize_size * longer / shorter), by PIL's
    antialiased filter. 8-bit images of 1 or 3 channels go through PIL in whatever form they come, or through the CPU
    kernel that gives the same bits (see `ops.cpu.resample`); others are resized by torch, with antialiasing, and stay
    on their device. Grey and RGB are converted into each other as the model needs. Where a resized image would exceed
    64 million pixels, only the part that the crop keeps is computed, which may differ in the last of the 8 bits.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preprocessing!r})"

    def __call__(self, image: ImageInput | OpenedImage, out: Tensor | None = None) -> Float[Tensor, "C h w"]:
        """Prepares one image, into `out` (C, h, w) if that is given."""
        preprocessing = self.preprocessing
        opened = _opened(image, preprocessing)
        resized = self.resized(opened.size)
        pixels = opened.pixels(_enough(resized, opened.size))
        filter_ = _filter(preprocessing) if resized[0] * resized[1] <= _MAX_RESIZED_PIXELS else None
        if filter_ is not None and (image_bytes := as_bytes(pixels)) is not None:
            window, levels = (*self._corner(resized), *preprocessing.image_size), _levels(preprocessing)
            return resample.resize_normalized(image_bytes, resized, filter_, levels, window=window, out=out)
        return normalize(self._resize_and_crop(as_whole(pixels), resized), preprocessing, out)

    def resize_and_crop(self, pixels: Image.Image | Tensor) -> Image.Image | Tensor:
        """The geometric half: a PIL image or float tensor (C, H, W) in [0, 1] -> the same of `image_size`."""
        return self._resize_and_crop(pixels, self.resized(height_width(pixels)))

    def _resize_and_crop(self, pixels: Image.Image | Tensor, resized: Size) -> Image.Image | Tensor:
        size = self.preprocessing.resize_size
        if isinstance(size, int) and resized[0] * resized[1] > _MAX_RESIZED_PIXELS:
            return _resize_centre(pixels, size, self.preprocessing)
        mode = _INTERPOLATION[self.preprocessing.interpolation]
        image = F.resize(pixels, list(resized), interpolation=mode, antialias=True)
        if isinstance(image, Tensor):
            # Bicubic overshoots at edges; PIL cuts that off as it rounds to 8 bits.
            image = image.clamp(0.0, 1.0)
        return F.crop(image, *self._corner(resized), *self.preprocessing.image_size)

    def resized(self, image_size: Size) -> Size:
        """(height, width) that an image of such a size is resized to, before the crop."""
        size = self.preprocessing.resize_size
        if not isinstance(size, int):
            return size
        height, width = image_size
        if width <= height:
            return int(size * height / width), size
        return size, int(size * width / height)

    def _corner(self, resized: Size) -> tuple[int, int]:
        """Top and left of the crop, as torchvision rounds them."""
        height, width = self.preprocessing.image_size
        return round((resized[0] - height) / 2), round((resized[1] - width) / 2)

    def seen(self, image_size: Size) -> tuple[float, float, float, float]:
        """The part of an image of (height, width) that is kept: left, top, right and bottom in the image's pixels."""
        resized = self.resized(image_size)
        edges: list[tuple[float, float]] = []
        for side, new, start, kept in zip(
            image_size, resized, self._corner(resized), self.preprocessing.image_size, strict=True
        ):
            edges.append((start * side / new, (start + kept) * side / new))
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
            preprocessing.image_size, scale=augmentation.crop_scale, ratio=augmentation.crop_ratio, antialias=True
        )
        self._colour: nn.Module | RandAugment | None = None
        if policy is not None:
            fill = tuple(min(255, round(255 * value)) for value in preprocessing.mean)
            filter_ = _RESAMPLING[preprocessing.interpolation]
            self._colour = RandAugment(RandAugmentPolicy.parse(policy), fill=fill, resample=filter_)
        elif jitter:
            self._colour = ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter)
        self._erase = RandomErasing(p=1.0, scale=(0.02, 1 / 3), value="random", inplace=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.preprocessing!r}, {self.augmentation!r})"

    def __call__(self, image: ImageInput | OpenedImage, out: Tensor | None = None) -> Float[Tensor, "C h w"]:
        """Changes and prepares one image, into `out` (C, h, w) if that is given."""
        preprocessing = self.preprocessing
        opened = _opened(image, preprocessing)
        result: Tensor | None = None
        if self.augmentation.crop == "random_resized":
            opened = _less_than_huge(opened)
            box, flip = self._draw_box(opened.size), self._draw_flip()
            pixels = opened.pixels(_enough(preprocessing.image_size, box[2:]))
            size, filter_ = preprocessing.image_size, _filter(preprocessing)
            if size_of(pixels) != opened.size:
                pixels = self._resized_part(as_picture(as_whole(pixels)), box, opened.size, flip)
            elif filter_ is None or (image_bytes := as_bytes(cut(pixels, *box))) is None:
                pixels = self._resized(as_whole(cut(pixels, *box)), flip)
            elif self._colour is None:
                levels = _levels(preprocessing)
                result = resample.resize_normalized(image_bytes, size, filter_, levels, flip=flip, out=out)
            else:
                pixels = resample.resize(image_bytes, size, filter_, flip=flip)
        else:
            pixels = self._padded_crop(as_whole(opened.pixels()))
            pixels = F.horizontal_flip(pixels) if self._draw_flip() else pixels
        if result is None:
            result = normalize(self._coloured(pixels), preprocessing, out)
        return self._erase(result) if torch.rand(()) < self.augmentation.erase_prob else result

    def erase(self, image: Float[Tensor, "C h w"]) -> Float[Tensor, "C h w"]:
        """Fills a random rectangle of a normalised image with normal noise, always."""
        erased: Tensor = self._erase(image.clone())
        return erased

    def _draw_box(self, size: Size) -> Box:
        params = self._crop.make_params([torch.empty(()).expand(1, *size)])
        return params["top"], params["left"], params["height"], params["width"]

    def _draw_flip(self) -> bool:
        return bool(torch.rand(()) < self.augmentation.flip_prob)

    def _resized(self, part: Image.Image | Tensor, flip: bool) -> Image.Image | Tensor:
        mode = _INTERPOLATION[self.preprocessing.interpolation]
        image = F.resize(part, list(self.preprocessing.image_size), interpolation=mode, antialias=True)
        image = image.clamp(0.0, 1.0) if isinstance(image, Tensor) else image
        return F.horizontal_flip(image) if flip else image

    def _resized_part(self, pixels: Image.Image, box: Box, size: Size, flip: bool) -> Image.Image:
        """Likewise of a box in the pixels of an image of `size`, of which these are fewer."""
        top, left, height, width = box
        rows, columns = pixels.height / size[0], pixels.width / size[1]
        edges = (left * columns, top * rows, (left + width) * columns, (top + height) * rows)
        resampling = _RESAMPLING[self.preprocessing.interpolation]
        image = pixels.resize(self.preprocessing.image_size[::-1], resampling, edges)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image

    def _padded_crop(self, pixels: Image.Image | Tensor) -> Image.Image | Tensor:
        pixels = self._evaluation.resize_and_crop(pixels)
        padding = self.augmentation.crop_padding
        if self.augmentation.crop == "none" or padding == 0:
            return pixels
        top, left = torch.randint(2 * padding + 1, (2,)).tolist()
        return F.crop(F.pad(pixels, [padding]), top, left, *self.preprocessing.image_size)

    def _coloured(self, pixels: Pixels) -> Pixels:
        if self._colour is None:
            return pixels
        picture: Picture = (
            # Colour operations are defined on 8 bits.
            F.to_pil_image(pixels.mul(255).round().to(torch.uint8)) if isinstance(pixels, Tensor) else pixels
        )
        if isinstance(self._colour, RandAugment):
            return self._colour(picture)
        changed: Image.Image = self._colour(as_image(picture))
        return changed


def normalize(pixels: Pixels, preprocessing: Preprocessing, out: Tensor | None = None) -> Float[Tensor, "... C h w"]:
    """Scales 8 bits to [0, 1] (floats are there already), subtracts the mean, divides by the standard deviation.

    The result is in `out`, if that is given.
    """
    if not isinstance(pixels, Tensor) and resample.why_not() is None and (image_bytes := as_bytes(pixels)) is not None:
        return resample.by_level(image_bytes, _levels(preprocessing), out=out)
    whole = as_whole(pixels)
    tensor = F.pil_to_tensor(whole) if isinstance(whole, Image.Image) else whole
    result = _normalized(tensor, preprocessing)
    return result if out is None else out.copy_(result)


def _normalized(tensor: Tensor, preprocessing: Preprocessing) -> Tensor:
    if tensor.dtype == torch.uint8:
        # torchvision's v2 multiplies by 1/255, which differs in the last bit from the division of the official code.
        tensor = tensor.float().div_(255)
    return F.normalize(tensor, list(preprocessing.mean), list(preprocessing.std))


@functools.lru_cache(maxsize=16)
def _levels(preprocessing: Preprocessing) -> Float[Tensor, "C 258"]:
    """What each of the 256 levels becomes, for each channel, and by what; see `resample.by_level`."""
    bytes_ = torch.arange(256, dtype=torch.uint8).expand(preprocessing.channels, 1, 256)
    statistics = torch.tensor([preprocessing.mean, preprocessing.std]).T
    return torch.cat([_normalized(bytes_, preprocessing)[:, 0], statistics], dim=1).contiguous()


def _opened(image: ImageInput | OpenedImage, preprocessing: Preprocessing) -> OpenedImage | HeldImage:
    if isinstance(image, OpenedImage):
        if image.channels == preprocessing.channels:
            return image
        image = as_whole(image.pixels())
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.size > 0:
        if image.shape[2] == preprocessing.channels in (1, 3):  # which is only read
            return HeldImage(image)
    return HeldImage(as_pixels(image, preprocessing.channels, preprocessing.white_level))


def _filter(preprocessing: Preprocessing) -> resample.Filter | None:
    """The filter that the CPU kernel has; None where resizing is left to PIL or torch."""
    if preprocessing.interpolation == "nearest" or resample.why_not() is not None:
        return None
    return preprocessing.interpolation


def _less_than_huge(opened: OpenedImage | HeldImage) -> OpenedImage | HeldImage:
    if opened.size[0] * opened.size[1] <= _MAX_CROPPED_PIXELS:
        return opened
    pixels = as_whole(opened.pixels())
    while isinstance(pixels, Image.Image) and pixels.width * pixels.height > _MAX_CROPPED_PIXELS:
        pixels = pixels.reduce(2)
    return HeldImage(pixels)


def _enough(wanted: Size, size: Size) -> float:
    """The part of an image's resolution that a result of that size needs, along the side that needs more."""
    return max(wanted[0] / size[0], wanted[1] / size[1])


def _resize_centre(
    pixels: Image.Image | Tensor, resize_size: int, preprocessing: Preprocessing
) -> Image.Image | Tensor:
    """Resize and centre crop in one: of a strip, only the part that remains is ever made."""
    height, width = height_width(pixels)
    target_height, target_width = preprocessing.image_size
    scale = resize_size / min(height, width)
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
