"""The order of samples: a pure function of seed, epoch and step, shared out between ranks."""

from typing import Any

import numpy as np
import pytest
import torch

from swin_transformer_pytorch.data.classification.augmentation import Augmentation
from swin_transformer_pytorch.data.classification.dataset import TrainingDataset
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.training.engine.sampling import Draw, EpochBatches, GroupedBatches, TrainingLoader
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

GREY = Preprocessing(image_size=(28, 28), resize_size=(28, 28), mean=(0.5,), std=(0.5,))


def batches(epoch: int, first_step: int = 0, **values: Any) -> list[list[int]]:
    sampler = EpochBatches(103, values.pop("batch_size", 10), **{"seed": 0, **values})
    sampler.epoch, sampler.first_step = epoch, first_step
    return list(sampler)


def test_an_epoch_has_each_image_at_most_once_and_leaves_out_the_incomplete_batch() -> None:
    epoch = batches(0)
    assert len(epoch) == 10
    assert {len(batch) for batch in epoch} == {10}
    assert len({index for batch in epoch for index in batch}) == 100


def test_the_order_differs_between_epochs_and_seeds_but_not_between_draws() -> None:
    assert batches(0) == batches(0)
    assert batches(0) != batches(1)
    assert batches(0) != batches(0, seed=1)


@pytest.mark.parametrize("counts", [(100, 3), (5, 90, 8), (103, 0, 0)])
def test_balanced_draws_have_each_class_as_often_and_no_repeat_alike(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    sampler = EpochBatches(len(labels), 1, seed=0, labels=labels)
    drawn = [index for (index,) in sampler]
    assert len(drawn) == len(set(drawn)) == len(labels)
    seen = np.bincount(labels[np.array(drawn) % len(labels)], minlength=len(counts))
    of_classes = seen[np.array(counts) > 0]
    assert of_classes.max() - of_classes.min() <= 1
    # An image comes for the second time when all of its class have come.
    for label, count in enumerate(counts):
        times = np.bincount([i % len(labels) for i in drawn if labels[i % len(labels)] == label], minlength=len(labels))
        assert count == 0 or np.ptp(times[labels == label]) <= 1
    parts = [list(EpochBatches(len(labels), 4, seed=0, labels=labels, rank=rank, world_size=2)) for rank in (0, 1)]
    together = [index for pair in zip(*parts, strict=True) for batch in pair for index in batch]
    assert together == drawn[: len(together)]


@pytest.mark.parametrize("fast", [True, False])
def test_an_image_that_comes_again_is_changed_otherwise(fast: bool) -> None:
    augmentation = Augmentation(
        crop="pad", crop_padding=4, flip_prob=0.5, auto_augment=None if fast else "rand-m9-inc1"
    )
    base = FashionSample("train")
    dataset = TrainingDataset(base, create_transform(GREY, train=True, augment=augmentation))
    first, again, same = dataset.__getitems__([7, 7 + len(base), 7])
    assert first[1] == again[1] == base.labels[7]
    assert torch.equal(first[0], same[0])
    assert not torch.equal(first[0], again[0])


def test_a_later_start_gives_the_rest_of_the_same_epoch() -> None:
    assert batches(3, first_step=4) == batches(3)[4:]


def test_ranks_share_the_batches_that_one_device_would_have() -> None:
    whole = batches(2, batch_size=20)
    parts = zip(*(batches(2, batch_size=10, rank=rank, world_size=2) for rank in range(2)), strict=True)
    assert [first + second for first, second in parts] == whole


def loader(workers: int = 0) -> TrainingLoader:
    transform = create_transform(GREY, train=True, augment=Augmentation(crop="pad", auto_augment=None, color_jitter=0))
    dataset = TrainingDataset(FashionSample("train"), transform, seed=7)
    return TrainingLoader(dataset, EpochBatches(len(dataset), 500, seed=7), num_workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_it_goes_on_where_another_stood_with_the_same_pixels(workers: int) -> None:
    whole = loader()
    expected = [batch for _ in range(2) for batch in whole]
    assert (whole.epoch, whole.step) == (1, 4)
    resumed = loader(workers)
    resumed.epoch, resumed.step = 0, 3
    actual = [batch for _ in range(2) for batch in resumed]
    assert len(actual) == 5
    for (images, labels), (expected_images, expected_labels) in zip(actual, expected[3:], strict=True):
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    next(iter(loader()))
    assert torch.equal(torch.get_rng_state(), before)


GROUPS = [0, 1, 1] * 11 + [0]  # 12 upright, 22 wide


def grouped(epoch: int, first_step: int = 0, **values: Any) -> list[list[Draw]]:
    sampler = GroupedBatches(values.pop("groups", GROUPS), values.pop("batch_size", 5), **{"seed": 0, **values})
    sampler.epoch, sampler.first_step = epoch, first_step
    batches = list(sampler)
    assert len(batches) == len(sampler) - first_step
    return batches


def test_batches_are_of_one_group_and_filled_up_from_it() -> None:
    epoch = grouped(0)
    assert len(epoch) == 3 + 5
    assert {len(batch) for batch in epoch} == {5}
    for batch in epoch:
        assert len({GROUPS[draw.image] for draw in batch}) == 1
    first = [draw.image for batch in epoch for draw in batch if draw.copy == 0]
    assert sorted(first) == list(range(len(GROUPS)))
    assert len({draw for batch in epoch for draw in batch}) == 40, "a repeated image is another draw"


def test_grouped_batches_depend_on_the_place_alone() -> None:
    assert grouped(0) == grouped(0)
    assert grouped(0) != grouped(1) != grouped(1, seed=1)
    assert grouped(3, first_step=4) == grouped(3)[4:]


def test_an_epoch_of_steps_is_a_stretch_of_endless_passes() -> None:
    endless = [batch for epoch in range(3) for batch in grouped(epoch)]
    stretches = [batch for epoch in range(8) for batch in grouped(epoch, steps_per_epoch=3)]
    assert stretches == endless
    assert grouped(2, first_step=1, steps_per_epoch=5) == endless[11:15]


def test_ranks_have_different_batches_and_as_many() -> None:
    whole = grouped(1)
    ranks = [grouped(1, rank=rank, world_size=3) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [3, 3, 3]
    shared = [batch for step in zip(*ranks, strict=True) for batch in step]
    assert shared[:8] == whole
    assert shared[8] == whole[0]


def test_one_image_is_enough() -> None:
    (batch,) = grouped(0, groups=[1], batch_size=4)
    assert batch == [Draw(0, 0, copy) for copy in range(4)]
