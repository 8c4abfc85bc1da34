"""Random numbers of a generator, as random changes of images draw them."""

from __future__ import annotations

import torch

from ...sizes import Size


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Any number from `low` to `high`."""
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def below(number: int, generator: torch.Generator) -> int:
    """One of 0, 1, ..., `number` - 1."""
    return int(torch.randint(number, (), generator=generator))


def random_factor(span: tuple[float, float], step: float | None, generator: torch.Generator) -> float:
    """Any number of a span; with a step, its least one and so many steps more."""
    least, most = span
    if step is None:
        return uniform(least, most, generator)
    count = int((most - least) / step + 1e-6) + 1
    return (least / step + below(count, generator)) * step  # as detectron2's recipes round it: 0.7 is 7 * 0.1


def random_place(size: Size, part: Size, generator: torch.Generator, *, diagonal: bool = False) -> tuple[int, int]:
    """(top, left) of a part of an image, 0 along a side that has no more than the part; on the diagonal one random
    number says both.
    """
    free = [max(side - own, 0) for side, own in zip(size, part, strict=True)]
    if diagonal:
        share = uniform(0, 1, generator)
        top, left = (round(most * share) for most in free)
    else:
        top, left = (below(most + 1, generator) for most in free)
    return top, left


def happens(probability: float, generator: torch.Generator) -> bool:
    """True with that probability."""
    return torch.rand((), generator=generator).item() < probability


def coin(generator: torch.Generator) -> bool:
    """True as often as not."""
    return bool(below(2, generator))
