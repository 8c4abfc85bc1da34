"""The order of shards' images: each once, whoever shares them, and how well they mix."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.shards.order import WindowedOrder
from swin_transformer_pytorch.training.engine.sampling import EpochBatches
from swin_transformer_pytorch.training.engine.seeding import Stream, generator

DRAW = functools.partial(generator, Stream.ORDER, 0)


def whole(order: WindowedOrder, epoch: int = 0) -> np.ndarray:
    """All global batches of an epoch, a row each."""
    drawn = order.epoch(DRAW, epoch)
    size = order.global_batch
    return np.stack([drawn.places(step * size, size) for step in range(len(order) // size)])


@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda counts: sum(counts) >= 12),
    window=st.one_of(st.none(), st.integers(1, 5)),
    lanes=st.sampled_from([1, 2, 3]),
    shares=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_each_image_comes_once_and_the_rest_is_less_than_a_batch(
    counts: list[int], window: int | None, lanes: int, shares: int, epoch: int
) -> None:
    order = WindowedOrder(np.array(counts), window=window, lanes=lanes, global_batch=lanes * shares)
    seen = whole(order, epoch).ravel() if sum(counts) >= lanes * shares else np.zeros(0, int)
    assert len({*seen.tolist()}) == len(seen) > sum(counts) - lanes * shares
    assert seen.min(initial=0) >= 0 and seen.max(initial=0) < sum(counts)


@pytest.mark.parametrize(("window", "lanes"), [(3, 1), (3, 4), (None, 1), (2, 2)])
def test_any_number_of_ranks_and_any_first_step_give_the_same_batches(window: int | None, lanes: int) -> None:
    counts = np.array([7, 9, 4, 8, 11, 6, 9, 10, 5, 8, 9, 7, 3])
    order = WindowedOrder(counts, window=window, lanes=lanes, global_batch=8)
    alone = whole(order, 2).tolist()
    for world_size in (1, 2, 4, 8):
        ranks = []
        for rank in range(world_size):
            batches = EpochBatches(
                int(counts.sum()), 8 // world_size, seed=0, rank=rank, world_size=world_size, order=order
            )
            batches.epoch, batches.first_step = 2, 5
            ranks.append(list(batches))
        together = [[index for part in parts for index in part] for parts in zip(*ranks, strict=True)]
        assert together == alone[5:]


def test_epochs_and_seeds_differ() -> None:
    order = WindowedOrder(np.full(10, 10), window=2, global_batch=10)
    other = order.epoch(functools.partial(generator, Stream.ORDER, 1), 0)
    assert not np.array_equal(whole(order, 0), whole(order, 1))
    assert not np.array_equal(whole(order, 0)[0], other.places(0, 10))


def test_a_window_is_read_before_the_next_and_what_is_wanted_is_what_is_read() -> None:
    order = WindowedOrder(np.full(12, 10), window=3, global_batch=4)
    shards_of_batches = whole(order) // 10
    for window in range(4):
        rows = shards_of_batches.ravel()[window * 30 : (window + 1) * 30]
        assert len({*rows.tolist()}) == 3
    told: list[list[int]] = []
    batches = EpochBatches(120, 4, seed=0, order=order, want=told.append)
    for batch in batches:
        assert {index // 10 for index in batch} <= {*told[-1]}
    assert [len(shards) for shards in told[:3]] == [6, 6, 6]
    assert told[0][3:] == told[1][:3]
    # After the last window comes the first of the next epoch, some of which may be there already.
    batches.epoch = 1
    next(iter(batches))
    assert {*told[4][:3]} <= {*told[3]}


def test_lanes_read_other_shards_and_the_same_global_batch_whoever_shares_it() -> None:
    order = WindowedOrder(np.full(12, 10), window=2, lanes=3, global_batch=6)
    batches = whole(order)
    shards = [{*(batches[:, 2 * lane : 2 * lane + 2] // 10).ravel().tolist()} for lane in range(3)]
    assert all(len(one) == 4 for one in shards)
    assert not shards[0] & shards[1] | shards[0] & shards[2] | shards[1] & shards[2]


def test_lanes_must_divide_the_batch() -> None:
    with pytest.raises(DataError, match=r"data\.shards\.lanes=3 does not divide the 8 images"):
        WindowedOrder(np.full(12, 10), window=2, lanes=3, global_batch=8)


def test_how_well_it_mixes() -> None:
    """Images that share a batch share one again as often as a window's size says; classes come as if drawn freely.

    Of images in random shards, a batch's classes are as many as of any random images. What the window changes is that
    images of one shard stay in one window: a pair of a batch is in one batch again 1 / windows of the time rather than
    1 / batches if they are of one shard, which of a window of K shards one in K pairs is.
    """
    shards, each, batch, window = 60, 50, 50, 6
    counts, epochs = np.full(shards, each), 6
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(100), shards * each // 100))

    def figures(window: int | None) -> tuple[float, float]:
        order = WindowedOrder(counts, window=window, global_batch=batch)
        rows = [whole(order, epoch) for epoch in range(epochs)]
        distinct = np.mean([len({*classes[batch].tolist()}) for epoch in rows for batch in epoch])
        again = []
        for one, other in zip(rows, rows[1:], strict=False):
            batch_of = np.empty(shards * each, dtype=np.int64)
            batch_of[other.ravel()] = np.repeat(np.arange(len(other)), batch)
            same = [(np.bincount(batch_of[row]) * (np.bincount(batch_of[row]) - 1)).sum() for row in one]
            again.append(sum(same) / (len(one) * batch * (batch - 1)))
        return float(distinct), float(np.mean(again))

    (free_classes, free_again), (classes_there, again) = figures(None), figures(window)
    assert classes_there == pytest.approx(free_classes, rel=0.03)  # 39.5 of 100
    assert free_again == pytest.approx(1 / 60, rel=0.15)
    # One in six pairs is of one shard: it meets again in a window of 6 batches; the others as freely as any.
    assert again == pytest.approx(1 / 6 * 1 / 6 + 5 / 6 * 1 / 60, rel=0.15)
