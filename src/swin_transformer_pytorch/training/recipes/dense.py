"""What the recipes of detection and segmentation have in common. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...backbone.config import ConfigError
from ...models.config import DetectorConfig, SegmenterConfig, find_dense_variant
from .parts import Init, OptimizerRecipe, RecipeError, Task, TrainerRecipe, require

ScheduleKind = Literal["multistep", "poly", "cosine"]
Scale = tuple[int, int]

_CONFIGS: dict[Task, type[DetectorConfig] | type[SegmenterConfig]] = {
    "detection": DetectorConfig,
    "segmentation": SegmenterConfig,
}


@dataclass(frozen=True, kw_only=True)
class DenseModelRecipe:
    """Which model is trained, and what it starts from.

    Attributes:
        name: a name of `swin models`, such as "mask_rcnn_swin_tiny_patch4_window7"; "name.tag" says which weights.
        config: instead of a name, the fields of the model's config (`DetectorConfig` or `SegmenterConfig`, with its
            backbone) for an architecture of your own. With neither, `weights` must be a checkpoint of ours.
        weights: what the model starts from: a catalogue tag, a path, a URL or a hub id; a classification checkpoint,
            such as "swin_tiny_patch4_window7_224.in1k", starts the backbone alone; null starts from random.
        init: how the backbone's random weights are drawn: "official" with a deviation of 0.02; "fan_in" with that of
            1 / sqrt(inputs), for narrow models, which learn much faster so. Heads have their own rules in both.
        num_classes: null for as many as the data has.
        config_overrides: fields of the config or its backbone that differ, such as `drop_path_rate: 0.1`.
    """

    name: str | None = None
    config: dict[str, Any] | None = None
    weights: str | None = None
    init: Init = "official"
    num_classes: int | None = None
    config_overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name is not None and self.config is not None:
            raise RecipeError(f"model.name={self.name!r} and model.config are both given; keep one of them")
        if self.name is None and self.config is None and self.weights is None:
            raise RecipeError("the recipe has no model: give model.name, model.config or model.weights")
        require(self.num_classes is None or self.num_classes >= 1, "model.num_classes", self.num_classes, "at least 1")
        fresh = self.weights is None and (self.name is None or "." not in self.name)
        require(self.init == "official" or fresh, "model.init", self.init, "'official' with model.weights")

    def described_config(self, task: Task) -> DetectorConfig | SegmenterConfig | None:
        """The architecture that the recipe itself describes; None where only `weights` does.

        Raises:
            RecipeError: there is no such model, it is one for another task, or a field is not possible.
        """
        try:
            if self.name is not None:
                variant = find_dense_variant(self.name.partition(".")[0])
                if variant.task != task:
                    raise RecipeError(f"model.name={self.name!r} is for {variant.task}; this recipe is for {task}")
                return variant.config.replace(**self.config_overrides)
            if self.config is not None:
                return _read_config(_CONFIGS[task], self.config).replace(**self.config_overrides)
            _CONFIGS[task]().replace(**self.config_overrides)
        except ConfigError as error:
            raise RecipeError(f"the recipe's model cannot be built: {error}") from error
        return None


def _read_config(
    kind: type[DetectorConfig] | type[SegmenterConfig], fields: Mapping[str, Any]
) -> DetectorConfig | SegmenterConfig:
    return kind.from_dict(fields)


@dataclass(frozen=True, kw_only=True)
class DenseOptimizerRecipe(OptimizerRecipe):
    """AdamW. As in the official code for dense tasks, a parameter decays unless its name has "norm" or is a bias table.

    V2's score scales and bias networks never decay either. Biases do, and so do the heads' batch norms ("bn").

    Attributes:
        layer_decay: factor on the learning rate from one block of the backbone to the block before it; 1 for none.
    """

    lr: float = 1e-4
    scale_lr: int | None = 16
    clip_grad_norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class DenseScheduleRecipe:
    """A linear rise of the learning rate, then its fall, in optimizer steps. Give `epochs` or `steps`.

    Attributes:
        kind: "multistep" multiplies the rate by `gamma` after each of `milestones`; "poly" lets it fall with the
            power `power` of what is left of the run; "cosine" is half a cosine.
        epochs: passes over the training images.
        steps: instead of epochs, optimizer steps; the images are then gone through as often as that takes.
        warmup_steps: length of the rise.
        warmup_ratio: where the rise starts, as a part of the rate that the step would have without it.
        milestones: for "multistep": after how many epochs (of a run of `steps`: steps) the rate falls.
        gamma: for "multistep": what the rate is multiplied by.
        power: for "poly": the power.
        min_lr: for "poly" and "cosine": the rate at the end; scaled like `optimizer.lr`.
    """

    kind: ScheduleKind = "multistep"
    epochs: int | None = None
    steps: int | None = None
    warmup_steps: int = 500
    warmup_ratio: float = 1e-3
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    power: float = 1.0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise RecipeError(
                f"schedule.epochs={self.epochs} and schedule.steps={self.steps}: one of them says how long the run "
                "is; give one and set the other to null"
            )
        for name in ("epochs", "steps"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"schedule.{name}", value, "at least 1")
        require(self.warmup_steps >= 0, "schedule.warmup_steps", self.warmup_steps, "at least 0")
        require(0 <= self.warmup_ratio <= 1, "schedule.warmup_ratio", self.warmup_ratio, "in [0, 1]")
        rising = all(first < second for first, second in zip((0, *self.milestones), self.milestones, strict=False))
        require(rising, "schedule.milestones", self.milestones, "rising numbers of at least 1")
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
        every = self.validate_every_steps
        require(every is None or every >= 1, "trainer.validate_every_steps", every, "at least 1, or null")


def check_lengths(schedule: DenseScheduleRecipe, trainer: DenseTrainerRecipe) -> None:
    """Raises a `RecipeError` where schedule and validation do not go together."""
    every = trainer.validate_every_steps
    if schedule.steps is None:
        fix = "null (a run of schedule.epochs has trainer.validate_every_epochs)"
        require(every is None, "trainer.validate_every_steps", every, fix)
        return
    fix = "1 (a run of schedule.steps has trainer.validate_every_steps)"
    require(trainer.validate_every_epochs == 1, "trainer.validate_every_epochs", trainer.validate_every_epochs, fix)
    if every is not None and every < schedule.steps:
        divisors = [steps for steps in range(1, schedule.steps + 1) if schedule.steps % steps == 0]
        near = min(divisors, key=lambda steps: abs(steps - every))
        fix = f"a divisor of schedule.steps={schedule.steps}, such as {near}"
        require(schedule.steps % every == 0, "trainer.validate_every_steps", every, fix)


def check_scale(name: str, scale: Scale | None) -> None:
    """Raises a `RecipeError` unless `scale` is None or (longest, shortest) in pixels."""
    ok = scale is None or (scale[0] >= scale[1] >= 1)
    require(ok, name, scale, "[longest side, shortest side] in pixels, or null for no resize")


def leg_steps(schedule: DenseScheduleRecipe, trainer: DenseTrainerRecipe) -> int | None:
    """In a run of `schedule.steps`, the optimizer steps from one validation to the next; None in one of epochs.

    Such a stretch is what the trainer, its checkpoints and the history take for an epoch.
    """
    return None if schedule.steps is None else min(trainer.validate_every_steps or schedule.steps, schedule.steps)
