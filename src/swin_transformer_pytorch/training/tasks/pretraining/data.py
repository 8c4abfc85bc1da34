"""Masked pre-training: from a recipe's `data` to batches of images and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader

from ....data.classification.dataset import LabelledImages, TrainingDataset
from ....data.classification.transforms import TrainingTransform
from ....data.images.masking import MaskRule
from ....data.transforms import create_transform
from ....data.unlabelled.measured import Masked, MeasuredImages, collate_measured
from ....models.config import MaskedConfig
from ....weights.preprocessing import Preprocessing
from ...engine.data import TrainingData
from ...engine.sampling import EpochBatches, TrainingLoader
from ...engine.seeding import Stream, generator
from ...recipes.pretraining import PretrainingRecipe
from ..classification.data import fitting_batch_size, shard_order


class MaskedImages(TrainingDataset):
    """Training images with what is hidden of them. Items are `Masked`.

    A mask, as the other random changes, is a pure function of (seed, epoch, index).
    """

    def __init__(self, base: LabelledImages, transform: TrainingTransform, rule: MaskRule, *, seed: int = 0) -> None:
        super().__init__(base, transform, seed=seed)
        self.rule = rule

    def __getitems__(self, indices: Sequence[int]) -> list[Masked]:  # type: ignore[override]  # a mask for a label
        images = [image for image, _ in super().__getitems__(indices)]
        places = ((self.seed, self.epoch, index) for index in indices)
        masks = [self.rule.draw(generator(Stream.MASK, *place)) for place in places]
        return list(zip(images, masks, strict=True))


class PretrainingData(TrainingData):
    """A recipe's images as Lightning wants them; the last batch of an epoch is left out where it is not full.

    Attributes:
        preprocessing: how an image becomes a tensor.
        rule: how it is hidden.
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
        self.rule = MaskRule.of(config, preprocessing.image_size)
        self._train, self._val = train, val

    @property
    def validation_samples(self) -> LabelledImages:
        return self._val

    def training_loader(self, rank: int, world_size: int) -> TrainingLoader:
        transform = create_transform(self.preprocessing, train=True, augment=self.augmentation)
        dataset = MaskedImages(self._train, transform, self.rule, seed=self.seed)
        self.train_samples = dataset.samples
        batches = EpochBatches(
            len(dataset),
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            **shard_order(self._train, self.batch_size * world_size),
        )
        return TrainingLoader(dataset, batches, num_workers=self.num_workers, check=dataset.samples.check)

    def evaluated(self, samples: LabelledImages) -> DataLoader[Any]:
        dataset = MeasuredImages(samples, create_transform(self.preprocessing), self.rule)
        return self.evaluation_loader(dataset, collate_measured)
