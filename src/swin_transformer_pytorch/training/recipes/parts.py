"""What the recipes of all tasks have in common: the optimizer, the trainer, and how a recipe is read and changed.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

Task = Literal["classification", "detection", "segmentation"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Strategy = Literal["auto", "ddp", "fsdp"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Init = Literal["official", "fan_in"]


class RecipeError(ValueError):
    """A recipe that cannot be run. The message names the key or file, its value and the fix."""


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe:
    """AdamW. Norms, biases, bias tables and V2's scales and bias networks never decay.

    Attributes:
        lr: the peak learning rate, for a batch of `scale_lr` images.
        scale_lr: the batch that the learning rates are meant for; they are scaled in proportion to the batch over all
            devices and accumulated steps. null takes them as they are.
        weight_decay: decoupled weight decay.
        betas: decay of the first and second moment.
        eps: added to the second moment's root.
        layer_decay: factor on the learning rate from one block to the block before it; 1 for none.
        clip_grad_norm: largest norm of all gradients together; null for no clipping.
    """

    lr: float = 5e-4
    scale_lr: int | None = 512
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    layer_decay: float = 1.0
    clip_grad_norm: float | None = 5.0

    def __post_init__(self) -> None:
        require(self.lr > 0, "optimizer.lr", self.lr, "above 0")
        batch = self.scale_lr
        require(batch is None or batch >= 1, "optimizer.scale_lr", batch, "at least 1, or null")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "at least 0")
        require(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", self.betas, "two numbers in [0, 1)")
        require(self.eps > 0, "optimizer.eps", self.eps, "above 0")
        require(0 < self.layer_decay <= 1, "optimizer.layer_decay", self.layer_decay, "in (0, 1]")
        clip = self.clip_grad_norm
        require(clip is None or clip > 0, "optimizer.clip_grad_norm", clip, "above 0, or null for no clipping")


@dataclass(frozen=True, kw_only=True)
class TrainerRecipe:
    """How the run is carried out.

    Attributes:
        device: "auto" takes a GPU where there is one.
        devices: how many of them.
        strategy: "ddp" copies the model to each device, "fsdp" shards it; "auto" is "ddp" for several devices.
        precision: "bf16-mixed" and "16-mixed" compute in half precision, parameters stay in float32; "auto" is
            "bf16-mixed" on a GPU that has it, else "32-true".
        accumulate: batches whose gradients are added up before a step.
        ema_decay: decay of a running mean of the weights, which is then what is validated and exported; null for none.
        seed: with it, a run on CPU is reproducible to the bit for one number of threads, resumed or not.
        checkpoint_every_steps: optimizer steps between two writings of last.ckpt; one is written after each epoch too.
        validate_every_epochs: epochs between two validations; there is always one after the last.
    """

    device: Device = "auto"
    devices: int = 1
    strategy: Strategy = "auto"
    precision: Precision = "auto"
    accumulate: int = 1
    ema_decay: float | None = None
    seed: int = 0
    checkpoint_every_steps: int = 1000
    validate_every_epochs: int = 1

    def __post_init__(self) -> None:
        for name in ("devices", "accumulate", "checkpoint_every_steps", "validate_every_epochs"):
            require(getattr(self, name) >= 1, f"trainer.{name}", getattr(self, name), "at least 1")
        ema = self.ema_decay
        require(ema is None or 0 < ema < 1, "trainer.ema_decay", ema, "between 0 and 1, or null for none")
        require(self.seed >= 0, "trainer.seed", self.seed, "at least 0")


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """What a whole training run has, whatever its task.

    Attributes:
        trainer: devices, precision, seed, checkpoints.
        output: folder for checkpoints, the history and the exported weights; made where it is missing.
        resume: continue the run that `output` holds; without one there, start it.
    """

    task: ClassVar[Task]

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
            recipe = _replace(recipe, key.split("."), value, key)
        return recipe if isinstance(recipe, type(self)) else self


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


def require(condition: bool, name: str, value: object, fix: str) -> None:
    """Raises a `RecipeError` that says what to use instead, unless `condition` holds and `value` is finite."""
    finite = not isinstance(value, float) or math.isfinite(value)
    if not (condition and finite):
        raise RecipeError(f"{name}={value!r} is not possible: use {fix}")
