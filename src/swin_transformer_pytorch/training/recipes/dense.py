"""What the recipes of detection and segmentation have in common. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from .parts import Auto, RecipeError, TrainerRecipe, require, require_counts, require_rising

ScheduleKind = Literal["multistep", "poly", "cosine"]
Scale = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class DenseScheduleRecipe:
    """A linear rise of the learning rate, then its fall, in optimizer steps. Give `epochs` or `steps`.

    Attributes:
        kind: "multistep" multiplies the rate by `gamma` after each of `milestones`; "poly" lets it fall with the
            power `power` of what is left of the run; "cosine" is half a cosine.
        epochs: passes over the training images; "auto" for about 2,000 steps, 12 to 40 passes (segmentation: 60).
        steps: instead of epochs, optimizer steps; the images are then gone through as often as that takes.
        warmup_steps: length of the rise. null for the official 500 (segmentation: 1500), at most a tenth of the run.
        warmup_ratio: where the rise starts, as a part of the rate that the step would have without it.
        milestones: for "multistep": after how many epochs (of a run of `steps`: steps) the rate falls.
        gamma: for "multistep": what the rate is multiplied by.
        power: for "poly": the power.
        min_lr: for "poly" and "cosine": the rate at the end; scaled like `optimizer.lr`.
    """

    kind: ScheduleKind = "multistep"
    epochs: int | Auto | None = None
    steps: int | None = None
    warmup_steps: int | None = None
    warmup_ratio: float = 1e-3
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    power: float = 1.0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs == "auto" and self.steps is not None:  # then the latter say it
            object.__setattr__(self, "epochs", None)
        require_counts(self, "schedule", {"epochs": 10**6, "steps": 10**9})
        require_counts(self, "schedule", {"warmup_steps": 10**9}, least=0)
        require(0 <= self.warmup_ratio <= 1, "schedule.warmup_ratio", self.warmup_ratio, "in [0, 1]")
        require_rising("schedule.milestones", self.milestones)
        require(not self.milestones or self.kind == "multistep", "schedule.milestones", self.milestones, "none here")
        require(0 < self.gamma <= 1, "schedule.gamma", self.gamma, "in (0, 1]")
        require(self.power > 0, "schedule.power", self.power, "above 0")
        require(self.min_lr >= 0, "schedule.min_lr", self.min_lr, "at least 0")


@dataclass(frozen=True, kw_only=True)
class DenseTrainerRecipe(TrainerRecipe):
    """How the run is carried out.

    Attributes:
        validate_every_steps: for a run of `schedule.steps`: optimizer steps between two validations, which are also
            those between two lines of the history; must divide it. null validates at the end alone.
    """

    validate_every_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts(self, "trainer", {"validate_every_steps": 10**9})


def given_folders(data: Any, split: str, labels: str) -> tuple[str, str] | None:
    """The folder of images and what belongs to it, where a recipe's `data` names them rather than its root.

    Args:
        data: the recipe's `data`.
        split: "train" or "val".
        labels: what the key of the latter ends in, "annotations" or "labels".

    Raises:
        RecipeError: one of the two is given without the other, or there is no root either.
    """
    given = {part: getattr(data, f"{split}_{part}") for part in ("images", labels)}
    if not any(given.values()):
        if data.root is None:
            raise RecipeError(
                f"data.kind={data.kind!r} needs data.root: add --data.root FOLDER, or --data.train_images, "
                f"--data.train_{labels}, --data.val_images and --data.val_{labels}"
            )
        return None
    for part, value in given.items():
        if value is None:
            raise RecipeError(f"data.{split}_{part} is missing, and its counterpart is given: give both or neither")
    return given["images"], given[labels]


def check_scenes_root(data: Any) -> None:
    """Raises a `RecipeError` where a recipe's `data` has scenes of images that it does not name."""
    if data.kind == "scenes" and data.root is None:
        raise RecipeError("data.kind='scenes' needs data.root: add --data.root FOLDER with Fashion-MNIST's files")


def check_lengths(schedule: DenseScheduleRecipe, trainer: DenseTrainerRecipe) -> None:
    """Raises a `RecipeError` unless the schedule has one length, and validation goes together with it."""
    if (schedule.epochs is None) == (schedule.steps is None):
        raise RecipeError(
            f"schedule.epochs={schedule.epochs} and schedule.steps={schedule.steps}: one of them says how long the "
            "run is; give one and set the other to null"
        )
    every = trainer.validate_every_steps
    if schedule.steps is None:
        fix = "null (a run of schedule.epochs has trainer.validate_every_epochs)"
        require(every is None, "trainer.validate_every_steps", every, fix)
        return
    fix = "1 (a run of schedule.steps has trainer.validate_every_steps)"
    require(trainer.validate_every_epochs == 1, "trainer.validate_every_epochs", trainer.validate_every_epochs, fix)
    if every is not None and every < schedule.steps:
        small = [steps for steps in range(1, math.isqrt(schedule.steps) + 1) if schedule.steps % steps == 0]
        divisors = small + [schedule.steps // steps for steps in small]
        near = min(divisors, key=lambda steps: abs(steps - every))
        fix = f"a divisor of schedule.steps={schedule.steps}, such as {near}"
        require(schedule.steps % every == 0, "trainer.validate_every_steps", every, fix)


def check_dense_data(data: Any) -> None:
    """Raises a `RecipeError` unless the numbers that `data` has in both dense tasks are possible."""
    counts = {"batch_size": 10**4, "num_scenes": 10**7, "num_val_scenes": 10**7, "max_pixels": 10**12}
    require_counts(data, "data", counts | {"white_level": 65535})
    require_counts(data, "data", {"num_workers": 1024}, least=0)
    size = data.scene_size
    require(all(32 <= side <= 8192 for side in size), "data.scene_size", size, "32 to 8,192 pixels a side")
    check_scale("data.scale", data.scale)


def check_scale(name: str, scale: Scale | Auto | None) -> None:
    """Raises a `RecipeError` unless `scale` is None, "auto" or (longest, shortest) in pixels."""
    ok = scale is None or scale == "auto" or 65535 >= scale[0] >= scale[1] >= 1
    require(ok, name, scale, "[longest side, shortest side] in pixels, null for no resize, or auto")


def leg_steps(schedule: DenseScheduleRecipe, trainer: DenseTrainerRecipe) -> int | None:
    """In a run of `schedule.steps`, the optimizer steps from one validation to the next; None in one of epochs.

    Such a stretch is what the trainer, its checkpoints and the history take for an epoch.
    """
    return None if schedule.steps is None else min(trainer.validate_every_steps or schedule.steps, schedule.steps)
