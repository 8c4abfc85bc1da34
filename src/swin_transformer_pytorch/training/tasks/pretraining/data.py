"""Masked pre-training: from a recipe's `data` to batches of images and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ....data.classification.dataset import EvaluationDataset, LabelledImages, TrainingDataset
from ....data.classification.transforms import EvaluationTransform, TrainingTransform
from ....data.images.masking import fixed_mask, patch_mask, random_mask
from ....data.transforms import create_transform
from ....models.config import MaskedConfig
from ....weights.preprocessing import Preprocessing
from ...engine.data import TrainingData
from ...engine.sampling import EpochBatches, TrainingLoader
from ...engine.seeding import Stream, generator
from ...recipes.pretraining import PretrainingRecipe
from ..classification.data import fitting_batch_size

Masked = tuple[Tensor, Tensor]


class MaskedImages(TrainingDataset):
    """Training images with what is hidden of them. Items are (float tensor (C, h, w), bool tensor, one a patch).

    A mask, as the other random changes, is a pure function of (seed, epoch, index).
    """

    def __init__(
        self, base: LabelledImages, transform: TrainingTransform, config: MaskedConfig, *, seed: int = 0
    ) -> None:
        super().__init__(base, transform, seed=seed)
        self.config = config
        self.grid = config.mask_grid(transform.preprocessing.image_size)

    def __getitems__(self, indices: Sequence[int]) -> list[Masked]:  # type: ignore[override]  # a mask for a label
        images = [image for image, _ in super().__getitems__(indices)]
        return [(image, self.mask(index)) for image, index in zip(images, indices, strict=True)]

    def mask(self, index: int) -> Bool[Tensor, "h w"]:
        """Of each patch of that image whether it is hidden in this epoch."""
        random = generator(Stream.MASK, self.seed, self.epoch, index)
        return _of_patches(random_mask(random, self.grid, self.config.mask_ratio), self.config)


class MeasuredImages(Dataset[Masked | str]):
    """Validation images, each with one mask for ever, or what is wrong with one that cannot be used, as text."""

    def __init__(self, base: LabelledImages, transform: EvaluationTransform, config: MaskedConfig) -> None:
        self.images = EvaluationDataset(base, transform)
        self.config = config
        self.grid = config.mask_grid(transform.preprocessing.image_size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Masked | str:
        item = self.images[index]
        if isinstance(item, str):
            return item
        return item[0], _of_patches(fixed_mask(index, self.grid, self.config.mask_ratio), self.config)


def collate_measured(items: Sequence[Masked | str]) -> tuple[Masked | None, list[str]]:
    """Images and masks, or None if no image could be read; and what is wrong with others."""
    usable = [item for item in items if not isinstance(item, str)]
    batch = (torch.stack([image for image, _ in usable]), torch.stack([mask for _, mask in usable])) if usable else None
    return batch, [item for item in items if isinstance(item, str)]


def _of_patches(mask: Any, config: MaskedConfig) -> Bool[Tensor, "h w"]:
    return torch.from_numpy(patch_mask(mask, config.mask_unit, config.backbone.patch_size))


class PretrainingData(TrainingData):
    """A recipe's images as Lightning wants them; the last batch of an epoch is left out where it is not full.

    Attributes:
        preprocessing: how an image becomes a tensor.
    """

    def __init__(
        self,
        recipe: PretrainingRecipe,
        train: LabelledImages,
        val: LabelledImages,
        preprocessing: Preprocessing,
        config: MaskedConfig,
    ) -> None:
        super().__init__(len(train), len(val), fitting_batch_size(recipe, len(train)), recipe.data.num_workers)
        self.augmentation = recipe.data.augmentation
        self.seed = recipe.trainer.seed
        self.preprocessing = preprocessing
        self.config = config
        self._train, self._val = train, val

    @property
    def validation_samples(self) -> LabelledImages:
        return self._val

    def training_loader(self, rank: int, world_size: int) -> TrainingLoader:
        transform = create_transform(self.preprocessing, train=True, augment=self.augmentation)
        dataset = MaskedImages(self._train, transform, self.config, seed=self.seed)
        self.train_samples = dataset.samples
        batches = EpochBatches(len(dataset), self.batch_size, seed=self.seed, rank=rank, world_size=world_size)
        return TrainingLoader(dataset, batches, num_workers=self.num_workers, check=dataset.samples.check)

    def evaluated(self, samples: LabelledImages) -> DataLoader[Any]:
        dataset = MeasuredImages(samples, create_transform(self.preprocessing), self.config)
        return self.evaluation_loader(dataset, collate_measured)
