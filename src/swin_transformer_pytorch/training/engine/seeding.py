"""Random numbers as a pure function of where a run stands: a resumed run draws what it would have drawn."""

from __future__ import annotations

import enum

import numpy as np


class Stream(enum.IntEnum):
    """What the numbers are for: streams of one place in a run do not depend on each other."""

    ORDER = 0
    MIX = 1
    STEP = 2
    SAMPLE = 3
    MASK = 4


def generator(stream: Stream, seed: int, *place: int) -> np.random.Generator:
    """A generator for this use at this place, such as (epoch, step, rank)."""
    return np.random.default_rng([int(stream), seed, *place])


def torch_seed(stream: Stream, seed: int, *place: int) -> int:
    """A seed in [0, 2**63) for `torch.manual_seed`."""
    return int(np.random.SeedSequence([int(stream), seed, *place]).generate_state(1, np.uint64)[0] >> 1)
