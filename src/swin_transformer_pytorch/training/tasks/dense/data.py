"""What the data of detection and of segmentation have in common: samples that are functions of seed and place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from ....data.images.unusable import ReplacedSamples, Samples, item_or_problem
from ...engine.data import TrainingData
from ...engine.sampling import Draw, GroupedBatches, TrainingLoader
from ...engine.seeding import Stream, torch_seed
from ...recipes.dense import leg_steps
from ...recipes.parts import chosen

if TYPE_CHECKING:
    from ...recipes.detection import DetectionRecipe
    from ...recipes.panoptic import PanopticRecipe
    from ...recipes.segmentation import SegmentationRecipe


class ChangedSamples(Dataset[Any]):
    """Samples with random changes, which are a pure function of seed and `Draw`.

    So neither the order of access nor the number of workers matters. For a sample that cannot be used the next one
    stands in, see `ReplacedSamples`.
    """

    def __init__(self, samples: Samples[Any], transform: Callable[[Any, torch.Generator], Any], *, seed: int) -> None:
        self.samples = ReplacedSamples(samples)
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Any:
        random = torch.Generator().manual_seed(torch_seed(Stream.SAMPLE, self.seed, *draw))
        return self.transform(self.samples[draw.image], random)


class EvaluatedSamples(Dataset[Any]):
    """Samples prepared for evaluation; of one that cannot be used, what is wrong with it, as text."""

    def __init__(self, samples: Samples[Any], prepare: Callable[[Any], Any]) -> None:
        self.samples = samples
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return item_or_problem(lambda: self.prepare(self.samples[index]))


class DenseData(TrainingData):
    """A dense task's images as Lightning wants them.

    Args:
        recipe: batch size, workers, seed and length of the run.
        train: the training samples.
        val: the validation samples.
        groups: the group of each training sample; batches have one group each.
        change: a training sample and a generator -> an item of a batch.
        prepare: a validation sample -> an item of a batch.
        collate: items -> a training batch, which moves to a device by `to`. Validation's batches are lists.
    """

    def __init__(
        self,
        recipe: DetectionRecipe | SegmentationRecipe | PanopticRecipe,
        train: Samples[Any],
        val: Samples[Any],
        *,
        groups: Sequence[int],
        change: Callable[[Any, torch.Generator], Any],
        prepare: Callable[[Any], Any],
        collate: Callable[[list[Any]], Any],
    ) -> None:
        super().__init__(len(train), len(val), chosen(recipe.data.batch_size), recipe.data.num_workers)
        self.seed = recipe.trainer.seed
        self.groups = groups
        steps = leg_steps(recipe.schedule, recipe.trainer)
        self.steps_per_epoch = None if steps is None else steps * recipe.trainer.accumulate
        self._train = ChangedSamples(train, change, seed=self.seed)
        self.train_samples = self._train.samples
        self._val, self._prepare = val, prepare
        self._collate = collate

    @property
    def parts(self) -> int:
        """Batches, as an epoch's order is one of these."""
        return self.rank_and_world_size()[1]

    @property
    def validation_samples(self) -> Samples[Any]:
        return self._val

    def training_loader(self, rank: int, world_size: int) -> TrainingLoader:
        batches = GroupedBatches(
            self.groups,
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            steps_per_epoch=self.steps_per_epoch,
        )
        return TrainingLoader(
            self._train,
            batches,
            num_workers=self.num_workers,
            collate=self._collate,
            check=self._train.samples.check,
        )

    def evaluated(self, samples: Samples[Any]) -> DataLoader[Any]:
        return self.evaluation_loader(EvaluatedSamples(samples, self._prepare), list)
