"""The learning rate at each optimizer step."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """What all have."""

    def at(self, step: int, peak_lr: float) -> float:
        """The learning rate of step `step` (0 is the first) for a group whose peak is `peak_lr`."""


def open_warmup(official: float, length: float) -> float:
    """Length of the rise where a recipe leaves it open: the official one, at most a tenth of the run; in one unit."""
    return min(official, length / 10)


@dataclass(frozen=True, kw_only=True)
class CosineSchedule:
    """A linear rise, then half a cosine: the official recipe's, counted in optimizer steps.

    As there, groups with a smaller peak (layer-wise decay) start and end at the same rates as the others.

    Attributes:
        total_steps: steps of the whole run.
        warmup_steps: steps of the rise, fewer than `total_steps`.
        warmup_lr: rate at step 0, where there is a rise.
        min_lr: rate that the cosine ends at.
    """

    total_steps: int
    warmup_steps: int
    warmup_lr: float
    min_lr: float

    def at(self, step: int, peak_lr: float) -> float:
        """The learning rate of step `step` (0 is the first) for a group whose peak is `peak_lr`."""
        if step < self.warmup_steps:
            return _rising(step, self.warmup_steps, self.warmup_lr, peak_lr)
        done = min((step - self.warmup_steps) / (self.total_steps - self.warmup_steps), 1.0)
        return self.min_lr + (peak_lr - self.min_lr) * (1 + math.cos(math.pi * done)) / 2

    def scaled(self, factor: float) -> CosineSchedule:
        """The same with other rates: the linear scaling rule for another batch."""
        return dataclasses.replace(self, warmup_lr=self.warmup_lr * factor, min_lr=self.min_lr * factor)


@dataclass(frozen=True, kw_only=True)
class StepSchedule:
    """A linear rise, then a rate that is multiplied at fixed steps: the official one of long masked pre-training.

    Attributes:
        warmup_steps: steps of the rise.
        warmup_lr: rate at step 0, where there is a rise.
        milestones: steps, counted from the run's first, from which on the rate is multiplied once more.
        gamma: what it is multiplied by.
    """

    warmup_steps: int
    warmup_lr: float
    milestones: tuple[int, ...]
    gamma: float

    def at(self, step: int, peak_lr: float) -> float:
        """The learning rate of step `step` (0 is the first) for a group whose peak is `peak_lr`."""
        if step < self.warmup_steps:
            return _rising(step, self.warmup_steps, self.warmup_lr, peak_lr)
        return peak_lr * self.gamma ** _count_passed(step, self.milestones)


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """OpenMMLab's linear rise: a factor on what the rate would be without it.

    Attributes:
        steps: its length.
        ratio: the factor at step 0.
    """

    steps: int
    ratio: float

    def factor(self, step: int) -> float:
        """The factor of step `step`; 1 from `steps` on."""
        return 1 - (1 - step / self.steps) * (1 - self.ratio) if step < self.steps else 1.0


@dataclass(frozen=True, kw_only=True)
class MultiStepSchedule:
    """A linear rise, then a rate that is multiplied at fixed steps: the official detection recipes'.

    Attributes:
        warmup: the rise.
        milestones: steps from which on the rate is multiplied once more.
        gamma: what it is multiplied by.
    """

    warmup: Warmup
    milestones: tuple[int, ...]
    gamma: float

    def at(self, step: int, peak_lr: float) -> float:
        """The learning rate of step `step` (0 is the first) for a group whose peak is `peak_lr`."""
        return peak_lr * self.gamma ** _count_passed(step, self.milestones) * self.warmup.factor(step)


@dataclass(frozen=True, kw_only=True)
class PolySchedule:
    """A linear rise, and a rate that falls with a power of what is left: the official segmentation recipes'.

    It falls from the first step on, during the rise too.

    Attributes:
        warmup: the rise.
        total_steps: steps of the whole run.
        power: 1 is a straight line.
        min_lr: the rate after the last step.
    """

    warmup: Warmup
    total_steps: int
    power: float
    min_lr: float

    def at(self, step: int, peak_lr: float) -> float:
        """The learning rate of step `step` (0 is the first) for a group whose peak is `peak_lr`."""
        left = 1 - min(step / self.total_steps, 1.0)
        return (self.min_lr + (peak_lr - self.min_lr) * left**self.power) * self.warmup.factor(step)


def _rising(step: int, steps: int, start: float, peak: float) -> float:
    return start + (peak - start) * step / steps


def _count_passed(step: int, milestones: tuple[int, ...]) -> int:
    return sum(step >= milestone for milestone in milestones)
