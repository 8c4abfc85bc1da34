"""What the recipes of all tasks have in common: model, optimizer, trainer, and how a recipe is written and changed.

Where tasks differ in a default alone, the task's recipe gives its own by its field's factory. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from ... import checks
from ...backbone.config import ConfigError, find_variant
from ...models.config import ModelConfig, Task, config_from_dict, find_other_variant
from ...models.mask2former_config import Mask2FormerConfig
from ...weights.catalog import SHIPPED

_log = logging.getLogger(__name__)

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Strategy = Literal["auto", "ddp", "fsdp", "hsdp"]
CheckpointForm = Literal["whole", "sharded"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Init = Literal["official", "fan_in"]
Which = Literal["averaged", "raw"]
Auto = Literal["auto"]
Logger = Literal["csv", "tensorboard", "wandb"]
Freeze = Literal["backbone", "all_but_head"] | int


class RecipeError(ValueError):
    """A recipe that cannot be run. The message names the key or file, its value and the fix."""


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """Which model is trained, and what it starts from.

    Attributes:
        name: a name of `swin models`, such as "mask_rcnn_swin_tiny_patch4_window7"; "name.tag" says which weights. A
            model in the package, such as "scenes_detection", is taken with its weights.
        config: instead of a name, the fields of the model's config (`DetectorConfig`, `SegmenterConfig` or, with
            `answers`, `Mask2FormerConfig`; with its backbone) for an architecture of your own. With neither, `weights`
            must be a checkpoint of ours.
        weights: what the model starts from: a catalogue tag, a path, a URL or a hub id; a classification checkpoint,
            such as "swin_tiny_patch4_window7_224.in1k", starts the backbone alone, as that of a dense model of another
            kind does; null starts from random.
        which: of a training's checkpoint the "averaged" or the "raw" weights; null for the averaged of ours, and what
            `state_dict`, `model` or the like holds of others'.
        init: how the backbone's random weights are drawn: "official" with a deviation of 0.02; "fan_in" with that of
            1 / sqrt(inputs), for narrow models, which learn much faster so. Heads have their own rules in both.
        num_classes: null for as many as the data has.
        in_channels: channels of the images: 1 (grey), 3 (colour), or those of NPY files and TIFFs of bands. "auto" is
            that of such training images, else the model's. What changes colours is left out where they are not 3.
        config_overrides: fields of the config or its backbone that differ, such as `drop_path_rate: 0.1`.
    """

    name: str | None = None
    config: dict[str, Any] | None = None
    weights: str | None = None
    which: Which | None = None
    init: Init = "official"
    num_classes: int | None = None
    in_channels: int | Auto = "auto"
    config_overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name in SHIPPED:  # its file says the architecture
            whole = f"null: {self.name!r} is a model in the package, with its weights"
            require(self.weights in (None, "default", self.name), "model.weights", self.weights, whole)
            object.__setattr__(self, "weights", self.name)
            object.__setattr__(self, "name", None)
        if self.name is not None and self.config is not None:
            raise RecipeError(f"model.name={self.name!r} and model.config are both given; keep one of them")
        if self.name is None and self.config is None and self.weights is None:
            raise RecipeError("the recipe has no model: give model.name, model.config or model.weights")
        require_counts(self, "model", {"num_classes": 1_000_000})
        channels, fix = self.in_channels, "1 (grey), 3 (colour), another number of bands, or auto"
        require(channels == "auto" or 1 <= channels <= 4096, "model.in_channels", channels, fix)
        fresh = self.weights is None and (self.name is None or "." not in self.name)
        require(self.init == "official" or fresh, "model.init", self.init, "'official' with model.weights")
        require(
            self.which is None or not fresh, "model.which", self.which, "null: there are no model.weights to choose"
        )

    @property
    def overrides(self) -> dict[str, Any]:
        """All fields of the config that the recipe sets beside it."""
        own = {} if self.in_channels == "auto" else {"in_channels": self.in_channels}
        return {**self.config_overrides, **own}

    def described_config(self, task: Task) -> ModelConfig | None:
        """The architecture that the recipe itself describes; None where only `weights` does.

        Raises:
            RecipeError: there is no such model, it is one for another task, or a field is not possible.
        """
        try:
            if self.name is None:
                config = config_from_dict(task, self.config or {})
            elif task == "classification":
                config = find_variant(self.name.partition(".")[0]).config
            else:
                variant = find_other_variant(self.name.partition(".")[0])
                if variant.task != task:
                    raise RecipeError(f"model.name={self.name!r} is for {variant.task}; this recipe is for {task}")
                config = variant.config
            config = config.replace(**self.overrides)
        except ConfigError as error:
            raise RecipeError(f"the recipe's model cannot be built: {error}") from error
        if self.name is None and self.config is None:
            return None
        check_answers(config, task)
        return config


def check_answers(config: ModelConfig, task: Task) -> None:
    """Raises a `RecipeError` where overrides have made a Mask2Former one for another task than the recipe's."""
    if isinstance(config, Mask2FormerConfig) and config.task != task:
        raise RecipeError(
            f"the model's answers are {config.answers!r}, for {config.task}, and this recipe is for {task}: leave "
            "'answers' out, or take a recipe for that"
        )


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe:
    """AdamW. In classification, norms, biases, bias tables and V2's scales and bias networks never decay.

    In dense tasks, as in their official code, a parameter decays unless its name has "norm" or is a bias table; V2's
    score scales and bias networks never decay either. Biases do, and so do the heads' batch norms ("bn"). Of a
    Mask2Former neither norms nor embeddings do, whatever they are called.

    Attributes:
        lr: the peak learning rate, for a batch of `scale_lr` images.
        scale_lr: the batch that the learning rates are meant for; they are scaled in proportion to the batch over all
            devices and accumulated steps. null takes them as they are.
        weight_decay: decoupled weight decay.
        betas: decay of the first and second moment.
        eps: added to the second moment's root.
        layer_decay: factor on the learning rate from one block of the backbone to the block before it; 1 for none.
        backbone_lr: factor on the learning rate of a dense model's backbone, beside that; 1 for none.
        clip_grad_norm: largest norm of all gradients together; null for no clipping.
    """

    lr: float = 5e-4
    scale_lr: int | None = 512
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    layer_decay: float = 1.0
    backbone_lr: float = 1.0
    clip_grad_norm: float | None = 5.0

    def __post_init__(self) -> None:
        require(self.lr > 0, "optimizer.lr", self.lr, "above 0")
        require_counts(self, "optimizer", {"scale_lr": 10**9})
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "at least 0")
        require(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", self.betas, "two numbers in [0, 1)")
        require(self.eps > 0, "optimizer.eps", self.eps, "above 0")
        require(0 < self.layer_decay <= 1, "optimizer.layer_decay", self.layer_decay, "in (0, 1]")
        require(0 < self.backbone_lr <= 1, "optimizer.backbone_lr", self.backbone_lr, "in (0, 1]")
        clip = self.clip_grad_norm
        require(clip is None or clip > 0, "optimizer.clip_grad_norm", clip, "above 0, or null for no clipping")


@dataclass(frozen=True, kw_only=True)
class TrainerRecipe:
    """How the run is carried out.

    Attributes:
        device: "auto" takes a GPU where there is one.
        devices: how many of them; of several machines on each.
        num_nodes: machines that train together, each with its own data and `torchrun`; only the first needs `output`.
        strategy: "ddp" copies the model to each device, "fsdp" shards it over all, "hsdp" over those of each machine;
            "auto" is "ddp" for several devices.
        checkpoints: what a shared model is saved as: "whole", one file while training waits, or "sharded", for models
            that no device holds: each device writes its part while training goes on, into a folder that all share.
        precision: "bf16-mixed" and "16-mixed" compute in half precision, parameters stay in float32; "auto" is
            "bf16-mixed" on a GPU that has it, else "32-true".
        compile: whether the model is compiled by `torch.compile`, which takes minutes and pays in long runs.
        timeout_minutes: how long several devices wait for each other before the run is given up.
        accumulate: batches whose gradients are added up before a step.
        ema_decay: decay of a running mean of the weights, which is then what is validated and exported; null for none.
        seed: with it, a run on CPU is reproducible to the bit for one number of threads, resumed or not.
        checkpoint_every_steps: optimizer steps between two writings of last.ckpt; one is written after each epoch too.
        checkpoint_every_minutes: minutes between two at most, if that is sooner; null leaves it to the steps.
        validate_every_epochs: epochs between two validations; there is always one after the last.
        freeze: what does not learn: "backbone" (of a classifier likewise all but its head), "all_but_head" (all but the
            last layers, whose outputs are classes), or a number of stages, the patch embedding and the first ones; null
            for nothing. Frozen parts are in evaluation mode.
        patience: validations without a better one after which the run ends; null for none. The learning rate is still
            planned for the whole run; the best weights are in best.ckpt.
        loggers: where losses, rates and metrics go besides `history.csv`, by Lightning's loggers: "tensorboard" (the
            folder `tensorboard` of the output), "wandb" (Weights & Biases, as its own settings say), "csv".
    """

    device: Device = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: Strategy = "auto"
    checkpoints: CheckpointForm = "whole"
    precision: Precision = "auto"
    compile: bool = False
    timeout_minutes: float = 30.0
    accumulate: int = 1
    ema_decay: float | None = None
    seed: int = 0
    checkpoint_every_steps: int = 1000
    checkpoint_every_minutes: float | None = None
    validate_every_epochs: int = 1
    freeze: Freeze | None = None
    patience: int | None = None
    loggers: tuple[Logger, ...] = ()

    def __post_init__(self) -> None:
        require_counts(self, "trainer", {"patience": 10**6})
        stages, fix = self.freeze, "null for nothing, or a number of stages of at least 1"
        require(not isinstance(stages, int) or stages >= 1, "trainer.freeze", stages, fix)
        counts = {"devices": 4096, "num_nodes": 65536, "accumulate": 10**6, "checkpoint_every_steps": 10**9}
        require_counts(self, "trainer", {**counts, "validate_every_epochs": 10**6})
        fix = "'fsdp': there is one machine, trainer.num_nodes=1"
        require(self.strategy != "hsdp" or self.num_nodes > 1, "trainer.strategy", self.strategy, fix)
        fix = "'whole', or trainer.strategy fsdp or hsdp"
        require(self.checkpoints == "whole" or self.shards, "trainer.checkpoints", self.checkpoints, fix)
        require(self.timeout_minutes > 0, "trainer.timeout_minutes", self.timeout_minutes, "above 0")
        minutes = self.checkpoint_every_minutes
        require(
            minutes is None or minutes > 0, "trainer.checkpoint_every_minutes", minutes, "above 0, or null for none"
        )
        ema = self.ema_decay
        require(ema is None or 0 < ema < 1, "trainer.ema_decay", ema, "above 0, below 1, or null for none")
        require_counts(self, "trainer", {"seed": 2**63 - 1}, least=0)

    @property
    def shards(self) -> bool:
        """Whether devices share the parameters."""
        return self.strategy in ("fsdp", "hsdp")

    @property
    def world_size(self) -> int:
        """Devices on all machines."""
        return self.devices * self.num_nodes


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """What a whole training run has, whatever its task.

    Attributes:
        task: what the model does.
        renamed: a key's name of once -> its name of today, in the same group.
        trainer: devices, precision, seed, checkpoints.
        output: folder for checkpoints, the history and the exported weights; made where it is missing.
        resume: continue the run that `output` holds; without one there, start it.
    """

    task: ClassVar[Task]
    renamed: ClassVar[Mapping[str, str]] = {}

    trainer: TrainerRecipe = field(default_factory=TrainerRecipe)
    output: str = "runs/train"
    resume: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as they travel in a checkpoint and as YAML."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        last = {item.name: plain.pop(item.name) for item in dataclasses.fields(BaseRecipe)}
        task = {} if self.task == "classification" else {"task": self.task}
        return {**task, **plain, **last}

    def replace(self, overrides: Mapping[str, Any]) -> Self:
        """A copy with other values; keys are dotted, such as "optimizer.lr"."""
        recipe: Any = self
        for key, value in overrides.items():
            recipe = _replace(recipe, self.current_key(key).split("."), value, key)
        return recipe if isinstance(recipe, type(self)) else self

    @classmethod
    def current_key(cls, key: str) -> str:
        """The dotted key, by the name that it has now; an old name is told in the log."""
        current = cls.renamed.get(key, key)
        if current != key:
            _log.warning("recipe key %s is now called %s", key, current)
        return current


def _replace(group: Any, path: list[str], value: Any, key: str) -> Any:
    if path[0] not in {item.name for item in dataclasses.fields(group)}:
        raise RecipeError(f"unknown recipe key {key!r}")
    if len(path) > 1:
        value = _replace(getattr(group, path[0]), path[1:], value, key)
    return dataclasses.replace(group, **{path[0]: value})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def require_counts(group: Any, where: str, most: Mapping[str, int], least: int = 1) -> None:
    """Raises a `RecipeError` unless these numbers of a group are None, or lie between `least` and theirs."""
    for name, largest in most.items():
        value, fix = getattr(group, name), f"a whole number from {least} to {largest:,}"
        require(value in (None, "auto") or least <= value <= largest, f"{where}.{name}", value, fix)


def require_rising(name: str, milestones: tuple[int, ...]) -> None:
    """Raises a `RecipeError` unless these are whole numbers of at least 1, each above the one before."""
    rising = all(first < second for first, second in zip((0, *milestones), milestones, strict=False))
    require(rising, name, milestones, "rising numbers of at least 1")


def chosen(value: int | Auto | None) -> int:
    """A number that a recipe may leave to the run, once that has settled it."""
    assert isinstance(value, int), "prepare settles it"
    return value


def require_one_rate(optimizer: OptimizerRecipe) -> None:
    """Raises a `RecipeError` where a model that is no dense one is given another rate for its backbone."""
    fix = "1: what else there is learns as fast; optimizer.layer_decay slows earlier layers down"
    require(optimizer.backbone_lr == 1, "optimizer.backbone_lr", optimizer.backbone_lr, fix)


def require_class_weights(weights: Any, fix: str) -> None:
    """Raises a `RecipeError` unless `loss.class_weights`, where it is numbers, are possible ones."""
    ok = not isinstance(weights, tuple) or (min(weights, default=-1) >= 0 and max(weights) > 0)
    require(ok, "loss.class_weights", weights, fix)


def require_one_a_class(weights: tuple[float, ...] | None, num_classes: int) -> None:
    """Raises a `RecipeError` unless `loss.class_weights`, if there are any, are as many as the classes."""
    if weights is not None and len(weights) != num_classes:
        raise RecipeError(f"loss.class_weights has {len(weights)} numbers for {num_classes} classes; give one a class")


def require(condition: bool, name: str, value: object, fix: str) -> None:
    """Raises a `RecipeError` that says what to use instead, unless `condition` holds and `value` is finite."""
    checks.require(condition, name, value, f"use {fix}", error=RecipeError)
