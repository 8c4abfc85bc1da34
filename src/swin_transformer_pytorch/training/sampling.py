"""Which images a step sees: a pure function of seed, epoch and step, so that a run can be taken up at any of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ..data.training_dataset import TrainingDataset
from .seeding import Stream, generator

Batch = tuple[Tensor, Tensor]


class EpochBatches(Sampler[list[int]]):
    """This rank's batches of an epoch, from a step on. An incomplete last batch is left out.

    Attributes:
        epoch: whose order is drawn.
        first_step: where iteration begins.
    """

    def __init__(self, num_images: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.num_images, self.batch_size = num_images, batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        return self.num_images // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = generator(Stream.ORDER, self.seed, self.epoch).permutation(self.num_images)
        for step in range(self.first_step, len(self)):
            start = (step * self.world_size + self.rank) * self.batch_size
            yield order[start : start + self.batch_size].tolist()


class TrainingLoader:
    """An epoch of batches for each `iter()`; it knows where it stands, also between two batches.

    Attributes:
        epoch: the epoch of the last batch that was given out, or of the next where there was none.
        step: batches of it that were given out.
    """

    def __init__(self, dataset: TrainingDataset, batches: EpochBatches, *, num_workers: int = 0) -> None:
        self.dataset = dataset
        self.batches = batches
        self.epoch = 0
        self.step = 0
        self._loader: DataLoader[tuple[Tensor, int]] = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        if self.step >= len(self):
            self.epoch, self.step = self.epoch + 1, 0
        self.batches.epoch, self.batches.first_step = self.epoch, self.step
        self.dataset.set_epoch(self.epoch)
        for images, labels in self._loader:
            self.step += 1
            yield images, labels
