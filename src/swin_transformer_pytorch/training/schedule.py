"""The learning rate at each optimizer step."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass


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
            return self.warmup_lr + (peak_lr - self.warmup_lr) * step / self.warmup_steps
        done = min((step - self.warmup_steps) / (self.total_steps - self.warmup_steps), 1.0)
        return self.min_lr + (peak_lr - self.min_lr) * (1 + math.cos(math.pi * done)) / 2

    def scaled(self, factor: float) -> CosineSchedule:
        """The same with other rates: the linear scaling rule for another batch."""
        return dataclasses.replace(self, warmup_lr=self.warmup_lr * factor, min_lr=self.min_lr * factor)
