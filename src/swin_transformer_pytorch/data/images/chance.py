"""Random numbers of a generator, as random changes of images draw them."""

from __future__ import annotations

import torch


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Any number from `low` to `high`."""
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def below(number: int, generator: torch.Generator) -> int:
    """One of 0, 1, ..., `number` - 1."""
    return int(torch.randint(number, (), generator=generator))


def happens(probability: float, generator: torch.Generator) -> bool:
    """True with that probability."""
    return torch.rand((), generator=generator).item() < probability


def coin(generator: torch.Generator) -> bool:
    """True as often as not."""
    return bool(below(2, generator))
