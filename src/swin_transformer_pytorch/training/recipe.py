"""What a training run is made of: `Recipe`, a tree of frozen dataclasses. Its defaults are the official ones.

Imports no torch, so that the command line can list, check and explain recipes at once. `recipe_files` reads them from
YAML; `load_recipe` and `list_recipes` are offered here too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..backbone.config import ConfigError, SwinConfig, find_variant
from ..data.augmentation import Augmentation

DataKind = Literal["folder", "fashion_sample", "fashion_mnist"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Strategy = Literal["auto", "ddp", "fsdp"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Init = Literal["official", "fan_in"]


class RecipeError(ValueError):
    """A recipe that cannot be run. The message names the key or file, its value and the fix."""


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """Which model is trained, and what it starts from.

    Attributes:
        name: an official name such as "swin_tiny_patch4_window7_224"; "name.tag" also says which weights.
        config: instead of a name, the fields of `SwinConfig` for an architecture of your own. With neither, `weights`
            must be a checkpoint of ours, which says its architecture itself.
        weights: what the model starts from: a catalogue tag, a path, a URL or a hub id; null starts from random.
        init: how random weights are drawn: "official" with a deviation of 0.02; "fan_in" with that of 1 / sqrt(inputs),
            for narrow models, which learn much faster so: 0.02 is little where a layer has few inputs.
        num_classes: outputs of the head; null for as many as the data has.
        in_channels: channels of the images, 1 (grey) or 3 (colour).
        config_overrides: fields of `SwinConfig` that differ from the named model's, such as `drop_path_rate: 0.1`.
    """

    name: str | None = None
    config: dict[str, Any] | None = None
    weights: str | None = None
    init: Init = "official"
    num_classes: int | None = None
    in_channels: int = 3
    config_overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name is not None and self.config is not None:
            raise RecipeError(f"model.name={self.name!r} and model.config are both given; keep one of them")
        if self.name is None and self.config is None and self.weights is None:
            raise RecipeError("the recipe has no model: give model.name, model.config or model.weights")
        try:
            if self.name is not None:
                find_variant(self.name.partition(".")[0]).config.replace(**self.config_overrides)
            else:
                SwinConfig.from_dict({**(self.config or {}), **self.config_overrides})
        except ConfigError as error:
            raise RecipeError(f"the recipe's model cannot be built: {error}") from error
        _require(self.num_classes is None or self.num_classes >= 1, "model.num_classes", self.num_classes, "at least 1")
        fresh = self.weights is None
        _require(self.init == "official" or fresh, "model.init", self.init, "'official' with model.weights")
        _require(self.in_channels in (1, 3), "model.in_channels", self.in_channels, "1 (grey) or 3 (colour)")


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Which images, how they are prepared and how they are batched.

    Attributes:
        kind: "folder" (`root` has train/ and val/, or one folder a class), "fashion_sample" (the 2,000 images in the
            package) or "fashion_mnist" (all 60,000, from the four files in `root`).
        root: the folder of images, for the kinds that have one.
        image_size: side of the model's images in pixels, or (height, width); null for the model's own.
        resize_size: evaluation's resize: an int is the shorter side, of which the centre is then cut out; a pair is
            both sides, without a crop; null for the official rule (256 for 224).
        batch_size: images of a step on one device.
        num_workers: processes that read and change images; 0 reads in the training process.
        val_fraction: part of each class that is held out where the folder has no val/.
        augmentation: the random changes.
    """

    kind: DataKind = "folder"
    root: str | None = None
    image_size: int | tuple[int, int] | None = None
    resize_size: int | tuple[int, int] | None = None
    batch_size: int = 128
    num_workers: int = 4
    val_fraction: float = 0.2
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("image_size", "resize_size"):
            value = getattr(self, name)
            sides = value if isinstance(value, tuple) else () if value is None else (value,)
            _require(all(side >= 1 for side in sides), f"data.{name}", value, "at least 1 pixel")
        _require(self.batch_size >= 1, "data.batch_size", self.batch_size, "at least 1")
        _require(self.num_workers >= 0, "data.num_workers", self.num_workers, "at least 0")
        _require(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "between 0 and 1")


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
        _require(self.lr > 0, "optimizer.lr", self.lr, "above 0")
        batch = self.scale_lr
        _require(batch is None or batch >= 1, "optimizer.scale_lr", batch, "at least 1, or null")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "at least 0")
        _require(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", self.betas, "two numbers in [0, 1)")
        _require(self.eps > 0, "optimizer.eps", self.eps, "above 0")
        _require(0 < self.layer_decay <= 1, "optimizer.layer_decay", self.layer_decay, "in (0, 1]")
        clip = self.clip_grad_norm
        _require(clip is None or clip > 0, "optimizer.clip_grad_norm", clip, "above 0, or null for no clipping")


@dataclass(frozen=True, kw_only=True)
class ScheduleRecipe:
    """A linear rise of the learning rate, then half a cosine, in optimizer steps.

    Attributes:
        epochs: passes over the training images.
        warmup_epochs: length of the rise; may be a fraction.
        warmup_lr: the rate that it starts from; scaled like `optimizer.lr`.
        min_lr: the rate that the cosine ends at; scaled like `optimizer.lr`.
    """

    epochs: int = 300
    warmup_epochs: float = 20
    warmup_lr: float = 5e-7
    min_lr: float = 5e-6

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "schedule.epochs", self.epochs, "at least 1")
        fix = f"at least 0 and below schedule.epochs={self.epochs}"
        _require(0 <= self.warmup_epochs < self.epochs, "schedule.warmup_epochs", self.warmup_epochs, fix)
        _require(self.warmup_lr >= 0, "schedule.warmup_lr", self.warmup_lr, "at least 0")
        _require(self.min_lr >= 0, "schedule.min_lr", self.min_lr, "at least 0")


@dataclass(frozen=True, kw_only=True)
class LossRecipe:
    """Cross entropy.

    Attributes:
        label_smoothing: probability that is spread evenly over all classes.
    """

    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        _require(0 <= self.label_smoothing < 1, "loss.label_smoothing", self.label_smoothing, "in [0, 1)")


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
            _require(getattr(self, name) >= 1, f"trainer.{name}", getattr(self, name), "at least 1")
        ema = self.ema_decay
        _require(ema is None or 0 < ema < 1, "trainer.ema_decay", ema, "between 0 and 1, or null for none")
        _require(self.seed >= 0, "trainer.seed", self.seed, "at least 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training run.

    Attributes:
        model: what is trained.
        data: on what.
        optimizer: AdamW's numbers.
        schedule: the learning rate over time.
        loss: the loss.
        trainer: devices, precision, seed, checkpoints.
        output: folder for checkpoints, the history and the exported weights; made where it is missing.
        resume: continue the run that `output` holds; without one there, start it.
    """

    model: ModelRecipe
    data: DataRecipe = field(default_factory=DataRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    trainer: TrainerRecipe = field(default_factory=TrainerRecipe)
    output: str = "runs/train"
    resume: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as they travel in a checkpoint."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain

    def replace(self, overrides: Mapping[str, Any]) -> Recipe:
        """A copy with other values; keys are dotted, such as "optimizer.lr"."""
        recipe: Any = self
        for key, value in overrides.items():
            recipe = _replace(recipe, key.split("."), value, key)
        return recipe if isinstance(recipe, Recipe) else self


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Recipe:
    """Reads one of `list_recipes()` or a YAML file of your own.

    Args:
        name_or_path: a recipe's name, or the path of a file that ends in .yaml or .yml.
        overrides: values that differ: dotted keys, `{"optimizer.lr": 1e-4}`, or a command line's words,
            `["--optimizer.lr", "1e-4"]` or `["--optimizer.lr=1e-4"]`.

    Raises:
        RecipeError: there is no such recipe or key (near ones are named), or a value that is not possible.
    """
    from .recipe_files import read_recipe

    return read_recipe(name_or_path, overrides)


def list_recipes() -> list[str]:
    """The names of the recipes in the package."""
    from .recipe_files import recipe_names

    return recipe_names()


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


def _require(condition: bool, name: str, value: object, fix: str) -> None:
    finite = not isinstance(value, float) or math.isfinite(value)
    if not (condition and finite):
        raise RecipeError(f"{name}={value!r} is not possible: use {fix}")
