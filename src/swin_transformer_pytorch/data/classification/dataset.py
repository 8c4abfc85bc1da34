"""A data set whose random changes depend on nothing but seed, epoch and sample: runs resume exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from ...ops.cpu import resample
from ...weights.preprocessing import Preprocessing
from ..images.batches import empty_batch
from ..images.jpeg import decoder
from ..images.opened import OpenedImage
from ..images.pixels import ImageInput, as_pixels
from ..images.unusable import ReplacedSamples, item_or_problem
from .fashion import ArrayDataset
from .files import LabelledFiles
from .transforms import EvaluationTransform, TrainingTransform, normalize

# Ready images are kept in memory up to this; beyond it they are made one at a time.
_MAX_READY_BYTES = 512 * 2**20


Label: TypeAlias = int | NDArray[np.uint8]
"""A class index, or where an image may have any number of classes, 0 or 1 a class."""


class LabelledImages(Protocol):
    """What a data set is here: a length, class names, items (image, label), all labels (n,) or (n, classes)."""

    classes: tuple[str, ...]

    @property
    def labels(self) -> NDArray[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Image.Image | Tensor, Any]: ...


class EvaluationDataset(Dataset[tuple[Tensor, Label] | str]):
    """`base` through the transform of evaluation.

    Items are (float tensor (C, h, w), label), or what is wrong with an image that cannot be used, as text.
    """

    def __init__(self, base: LabelledImages, transform: EvaluationTransform) -> None:
        self.base = base
        self.samples = _Opened(base)
        self.transform = transform
        self.classes = base.classes

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> tuple[Tensor, Label] | str:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Label] | str]:
        """The items of a whole batch, whose images lie one after the other; DataLoader prefers it to single items."""
        room = _room(len(indices), self.transform.preprocessing)
        return [
            item_or_problem(lambda: self._prepared(*self.samples[index], out))  # noqa: B023
            for index, out in zip(indices, room, strict=True)
        ]

    def _prepared(self, image: ImageInput | OpenedImage, label: Label, out: Tensor) -> tuple[Tensor, Label]:
        return self.transform(image, out), label


class TrainingDataset(Dataset[tuple[Tensor, Label]]):
    """`base` through the transform of training. Items are (float tensor (C, h, w), label).

    A sample's random changes are a pure function of (seed, epoch, index): neither the order of access nor the number
    of workers matters, and torch's global random state is left as it was. Call `set_epoch` before each epoch;
    workers that are already running see it too. Indices from `len` on stand for the images once more, with other
    changes.

    For an image that cannot be used the next one stands in, see `ReplacedSamples`.

    Where the images lie in memory (`ArrayDataset`) and the augmentation is no more than padded crop, flip and
    erasing, a DataLoader's whole batch is made at once, in microseconds a sample.
    """

    def __init__(self, base: LabelledImages, transform: TrainingTransform, *, seed: int = 0, epoch: int = 0) -> None:
        self.base = base
        self.samples = ReplacedSamples(_Opened(base))
        self.transform = transform
        self.classes = base.classes
        self.seed = seed
        # In shared memory, so that persistent workers follow.
        self._epoch = torch.tensor(epoch, dtype=torch.int64).share_memory_()
        self._ready = _ready_images(base, transform)

    @property
    def epoch(self) -> int:
        """The epoch whose random changes are made."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch's random changes to make, from the next item on."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> tuple[Tensor, Label]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Label]]:
        """The samples of a whole batch; DataLoader prefers it to single items."""
        chosen = np.asarray(indices, dtype=np.int64)
        seeds = sample_seeds(self.seed, self.epoch, chosen)
        if self._ready is not None and isinstance(self.base, ArrayDataset):
            places = chosen % len(self)
            images = self._batch(self._ready[places], seeds)
            return list(zip(images.unbind(0), self.base.labels[places].tolist(), strict=True))
        room = _room(len(indices), self.transform.preprocessing)
        with torch.random.fork_rng(devices=[]):
            return [
                self.samples.made(index, lambda sample: self._changed(*sample, seed, out))  # noqa: B023
                for index, seed, out in zip(indices, seeds.tolist(), room, strict=True)
            ]

    def _changed(self, image: ImageInput | OpenedImage, label: Label, seed: int, out: Tensor) -> tuple[Tensor, Label]:
        # The CPU generator alone: `torch.manual_seed` would reach for the GPU from worker processes.
        torch.default_generator.manual_seed(seed)
        return self.transform(image, out), label

    def _batch(self, images: NDArray[np.uint8], seeds: NDArray[np.uint64]) -> Tensor:
        """(B, C, h, w) ready images -> the same, padded, cropped, flipped, normalised and erased by each one's seed."""
        augmentation = self.transform.augmentation
        if augmentation.crop == "pad" and augmentation.crop_padding > 0:
            padding = augmentation.crop_padding
            padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[2:], axis=(2, 3))
            top, left = ((_uniform(seeds, draw) * (2 * padding + 1)).astype(np.int64) for draw in (0, 1))
            images = windows[np.arange(len(images)), :, top, left]
        flipped = _uniform(seeds, 2) < augmentation.flip_prob
        images[flipped] = images[flipped, :, :, ::-1]
        batch = normalize(torch.from_numpy(images), self.transform.preprocessing)
        with torch.random.fork_rng(devices=[]):
            for row in np.flatnonzero(_uniform(seeds, 3) < augmentation.erase_prob).tolist():
                torch.default_generator.manual_seed(int(seeds[row]))
                batch[row] = self.transform.erase(batch[row])
        return batch


class _Opened:
    """A data set's items, of files with images that are not decoded yet."""

    def __init__(self, base: LabelledImages) -> None:
        self.base = base
        if isinstance(base, LabelledFiles):  # found out here, processes that are forked need not
            resample.why_not()
            decoder()

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> tuple[ImageInput | OpenedImage, Label]:
        return self.base.opened(index) if isinstance(self.base, LabelledFiles) else self.base[index]


def _room(count: int, preprocessing: Preprocessing) -> Float32[Tensor, "B C h w"]:
    return empty_batch(count, preprocessing.channels, *preprocessing.image_size)


def sample_seeds(seed: int, epoch: int, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    """An independent 63-bit seed for each index, the same on every machine (SplitMix64, Steele et al. 2014)."""
    state = _mix(np.array([seed % 2**64], dtype=np.uint64))
    state = _mix(state ^ np.uint64(epoch % 2**64))
    return _mix(state ^ indices.astype(np.uint64)) >> np.uint64(1)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _uniform(seeds: NDArray[np.uint64], draw: int) -> NDArray[np.float64]:
    """The `draw`-th uniform number in [0, 1) of each seed."""
    bits: NDArray[np.uint64] = _mix(_mix(seeds) ^ np.uint64(draw)) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _ready_images(base: LabelledImages, transform: TrainingTransform) -> NDArray[np.uint8] | None:
    """All images as evaluation would crop them, (N, C, h, w), where the fast way can be taken; else None."""
    augmentation, preprocessing = transform.augmentation, transform.preprocessing
    if not isinstance(base, ArrayDataset) or preprocessing.channels not in (1, 3):
        return None
    if augmentation.crop == "random_resized" or augmentation.auto_augment is not None or augmentation.color_jitter:
        return None
    height, width = preprocessing.image_size
    if len(base) * preprocessing.channels * height * width > _MAX_READY_BYTES:
        return None
    unchanged = preprocessing.resize_size in (min(height, width), (height, width))
    if preprocessing.channels == 1 and unchanged and base.images.shape[1:] == (height, width):
        return base.images[:, None]
    evaluation = EvaluationTransform(preprocessing)
    ready = np.empty((len(base), preprocessing.channels, height, width), dtype=np.uint8)
    for index in range(len(base)):
        image = evaluation.resize_and_crop(as_pixels(base[index][0], preprocessing.channels))
        ready[index] = F.pil_to_tensor(image).numpy()
    return ready
