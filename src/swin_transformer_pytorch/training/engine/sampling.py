"""Which images a step sees: a pure function of seed, epoch and step, so that a run can be taken up at any of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ...data.classification.dataset import TrainingDataset
from ...data.shards.order import WindowedOrder
from ...evaluation.batches import stacked
from .seeding import Stream, generator
from .stopping import leave_stopping_to_the_run


class EpochBatches(Sampler[list[int]]):
    """This rank's batches of an epoch, from a step on. An incomplete last batch is left out.

    Args:
        num_images: in the data set.
        batch_size: images of a batch.
        seed: chooses the order.
        rank: whose batches, of `world_size` devices'.
        labels: the class of each image, to draw each class equally often; None for each image once. The k-th time that
            an image comes in an epoch its index is k * num_images higher.
        order: of images that lie in shards; None for any order.
        want: told which shards are needed, the soonest first, each time that others are.

    Attributes:
        epoch: whose order is drawn.
        first_step: where iteration begins.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        labels: NDArray[np.int64] | None = None,
        order: WindowedOrder | None = None,
        want: Callable[[list[int]], None] | None = None,
    ) -> None:
        assert order is None or order.global_batch == batch_size * world_size, "it is of these batches"
        self._order, self._want = order, want
        self.num_images, self.batch_size = num_images, batch_size
        self._classes = None if labels is None else [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        return self.num_images // (self.batch_size * self.world_size)

    @property
    def steps_per_pass(self) -> int:
        """Batches of a pass over the images, which is an epoch here."""
        return len(self)

    def __iter__(self) -> Iterator[list[int]]:
        if self._order is not None:
            yield from self._windowed(self._order)
            return
        random = generator(Stream.ORDER, self.seed, self.epoch)
        order = random.permutation(self.num_images) if self._classes is None else self._balanced(random)
        for step in range(self.first_step, len(self)):
            start = (step * self.world_size + self.rank) * self.batch_size
            yield order[start : start + self.batch_size].tolist()

    def _windowed(self, order: WindowedOrder) -> Iterator[list[int]]:
        draw = functools.partial(generator, Stream.ORDER, self.seed)
        epoch, then = order.epoch(draw, self.epoch), order.epoch(draw, self.epoch + 1)
        windows: tuple[tuple[int, int], ...] = ()
        for step in range(self.first_step, len(self)):
            start = (step * self.world_size + self.rank) * self.batch_size
            if self._want is not None and (now := epoch.windows(start, self.batch_size)) != windows:
                windows = now
                self._want(epoch.shards_of(windows, then))
            yield epoch.places(start, self.batch_size).tolist()

    def _balanced(self, random: np.random.Generator) -> NDArray[np.int64]:
        """As many images as there are, each class as often as any other but for one image."""
        assert self._classes is not None
        quotas = np.full(len(self._classes), self.num_images // len(self._classes))
        quotas[random.permutation(len(quotas))[: self.num_images % len(quotas)]] += 1
        draws = []
        for images, quota in zip(self._classes, quotas.tolist(), strict=True):
            places = np.arange(quota)
            draws.append(random.permutation(images)[places % len(images)] + places // len(images) * self.num_images)
        return random.permutation(np.concatenate(draws))


class Draw(NamedTuple):
    """One image in one place of a run: what its random changes depend on.

    Attributes:
        image: which.
        turn: how many passes over all images came before.
        copy: how often the image came before in the same pass, where it fills up a batch.
    """

    image: int
    turn: int
    copy: int


class GroupedBatches(Sampler[list[Draw]]):
    """This rank's batches of an epoch, from a step on, each of images of one group: wide ones say, or upright ones.

    What is left of a group becomes a batch too, filled up with images of the same group, so that any number of images
    is enough. Batches come in random order; ranks have different ones, of the same or another group.

    Args:
        groups: the group of each image.
        batch_size: images of a batch.
        seed: chooses the order.
        rank: whose batches, of `world_size` devices'.
        steps_per_epoch: null for a pass over the images; a number makes the epoch that many batches of an endless
            series of passes.

    Attributes:
        epoch: whose order is drawn.
        first_step: where iteration begins.
    """

    def __init__(
        self,
        groups: Sequence[int],
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        steps_per_epoch: int | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0
        self.first_step = 0
        chosen = np.asarray(groups)
        self._groups = [np.flatnonzero(chosen == group) for group in np.unique(chosen)]
        batches = sum(-(-len(group) // batch_size) for group in self._groups)
        self.steps_per_pass = -(-batches // world_size)
        self.steps_per_epoch = steps_per_epoch or self.steps_per_pass

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        start = self.epoch * len(self)
        turn, batches = -1, self._pass(0)
        for step in range(start + self.first_step, start + len(self)):
            if step // self.steps_per_pass != turn:
                turn = step // self.steps_per_pass
                batches = self._pass(turn)
            batch = batches[step % self.steps_per_pass * self.world_size + self.rank]
            yield [Draw(image, turn, copy) for image, copy in batch.tolist()]

    def _pass(self, turn: int) -> NDArray[np.int64]:
        """(batches, batch size, 2): (image, copy) of all ranks' batches of one pass."""
        random = generator(Stream.ORDER, self.seed, turn)
        batches = []
        for group in self._groups:
            order = random.permutation(group)
            places = np.arange(-(-len(order) // self.batch_size) * self.batch_size)
            draws = np.stack([order[places % len(order)], places // len(order)], axis=1)
            batches.append(draws.reshape(-1, self.batch_size, 2))
        whole = np.concatenate(batches)
        whole = whole[random.permutation(len(whole))]
        missing = np.arange(self.steps_per_pass * self.world_size) % len(whole)
        return whole[missing]


def collate_images(items: list[tuple[Tensor, Any]]) -> list[Any]:
    """Of items (image, label or mask): the images (B, C, h, w), which are not copied, and a batch of the others."""
    return [stacked([image for image, _ in items]), default_collate([other for _, other in items])]


class TrainingLoader:
    """An epoch of batches for each `iter()`; it knows where it stands, also between two batches.

    Args:
        dataset: where `batches` finds its items.
        batches: which, and in which order.
        num_workers: processes that make them.
        collate: makes a batch of items; None for `collate_images`.
        check: called after each batch, in this process; may raise.

    Attributes:
        epoch: the epoch of the last batch that was given out, or of the next where there was none.
        step: batches of it that were given out.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: EpochBatches | GroupedBatches,
        *,
        num_workers: int = 0,
        collate: Callable[[list[Any]], Any] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.dataset = dataset
        self.check = check
        self.batches = batches
        self.epoch = 0
        self.step = 0
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=leave_stopping_to_the_run,
            collate_fn=collate or collate_images,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        if self.step >= len(self):
            self.epoch, self.step = self.epoch + 1, 0
        self.batches.epoch, self.batches.first_step = self.epoch, self.step
        if isinstance(self.dataset, TrainingDataset):
            self.dataset.set_epoch(self.epoch)
        for batch in self._loader:
            self.check()
            self.step += 1
            yield batch
