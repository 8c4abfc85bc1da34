"""Training as a Lightning module, whatever the task: a step, the optimizer, and what a checkpoint holds."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from ...data.images.unusable import ReplacedSamples, Unusable
from .ema import WeightAverage
from .freezing import freeze
from .processes import on_all
from .schedule import Schedule, open_warmup
from .seeding import Stream, torch_seed
from .strategy import compile_model, gathered, shard

if TYPE_CHECKING:
    from ...models.build import Model
    from ..recipes.tasks import AnyRecipe
    from .data import TrainingData

Item = TypeVar("Item")

_log = logging.getLogger(__name__)


class DivergedError(ValueError):
    """The training loss is no longer a number."""


class Training(LightningModule):
    """Trains `model` as `recipe` says. A task's own class says what the losses, the schedule and a validation are.

    All randomness of a step is a function of (seed, epoch, batch, rank). These whole numbers are thus the whole random
    state of a run, on any number of devices, and a checkpoint at any step continues it exactly.

    Attributes:
        model: what is trained; the module's parameters are its own under "model.".
        recipe: with all that was chosen for this run.
        ema: the running mean of the weights, or None. It is what is validated.
        metrics: of the last validation; empty before.
        test_metrics: of the test images, "test_..." as those are "val_..."; empty before, and where there are none.
        unusable: the validation images that could not be used; after a validation those of all ranks.
        main_metric: the one that says which checkpoint is the best.
        lower_is_better: whether less of it is better; else more is.
        warmup: the recipe's key for the length of the rise, and the official recipe's value.
    """

    main_metric: str
    lower_is_better: ClassVar[bool] = False
    warmup: ClassVar[tuple[str, int]]

    def __init__(self, model: Model, recipe: AnyRecipe, *, batch_size: int) -> None:
        super().__init__()
        freeze(model, recipe.trainer.freeze)
        self.model = model
        self.recipe = recipe
        self.batch_size = batch_size
        self.ema: WeightAverage | None = None
        self.metrics: dict[str, float] = {}
        self.test_metrics: dict[str, float] = {}
        self._loss_sums: dict[str, float] = {}
        self._loss_count: float = 0
        self._ema_to_load: tuple[dict[str, Tensor], int] | None = None
        self.unusable = Unusable(0, "validation images")
        self._validation = ExitStack()
        self._sharded = self._compiled = False

    @abstractmethod
    def losses(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """The losses of a batch by name. Their sum is what is minimised."""

    @abstractmethod
    def schedule(self, total_steps: int) -> Schedule:
        """The learning rate of a run of that many optimizer steps."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW's groups, each with its peak learning rate and weight decay."""

    @abstractmethod
    def begin_validation(self) -> None:
        """Forgets what was counted before."""

    @abstractmethod
    def end_validation(self) -> dict[str, float]:
        """The metrics of all ranks' images together, the same on every rank."""

    def facts(self) -> dict[str, str]:
        """What else the overview of a run of this task says, by name."""
        return {}

    @classmethod
    def is_better(cls, score: float, than: float | None) -> bool:
        """Whether a validation's main metric is better than another one; anything is better than none."""
        if than is None or math.isnan(than):
            return True
        return score < than if cls.lower_is_better else score > than

    @property
    def lr_factor(self) -> float:
        """What the recipe's learning rates are multiplied by: the linear scaling rule."""
        if self.recipe.optimizer.scale_lr is None:
            return 1.0
        global_batch = self.batch_size * self.trainer.world_size * self.recipe.trainer.accumulate
        return global_batch / self.recipe.optimizer.scale_lr

    def configure_model(self) -> None:
        if self._device_mesh is not None and not self._sharded:
            both_sides = self.recipe.trainer.strategy == "hsdp"
            shard(self.model, self._device_mesh if both_sides else self._device_mesh["data_parallel"])
            self._sharded = True
        if self.recipe.trainer.compile and not self._compiled:
            compile_model(self.model)
            self._compiled = True

    def configure_optimizers(self) -> Any:
        chosen = self.recipe.optimizer
        # Fused AdamW would unscale fp16 gradients itself, after they are clipped.
        fused = self.trainer.precision != "16-mixed"
        optimizer = AdamW(self.parameter_groups(), betas=chosen.betas, eps=chosen.eps, fused=fused)
        total_steps = int(self.trainer.estimated_stepping_batches)
        self._settle_warmup(total_steps)
        schedule = self.schedule(total_steps)
        factors = [_factor(schedule, group["lr"]) for group in optimizer.param_groups]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"},
        }

    def _settle_warmup(self, total_steps: int) -> None:
        """Chooses the length of the rise where the recipe leaves it open. Says so, and if it takes the whole run."""
        key, official = self.warmup
        unit = key.rpartition("_")[2]
        length = total_steps if unit == "steps" else int(self.trainer.max_epochs or 1)
        warmup = getattr(self.recipe.schedule, f"warmup_{unit}")
        if warmup is None:
            warmup = open_warmup(official, length)
            warmup = int(warmup) if unit == "steps" else warmup
            self.recipe = self.recipe.replace({key: warmup})
            said = f"{key}={warmup:g} was chosen, of the run's {length:,} {unit}"
        elif warmup >= length:
            said = f"{key}={warmup:g} is all of the run's {length:,} {unit}: use null for a tenth of it"
        else:
            return
        if self.trainer.is_global_zero:
            _log.warning("%s", said)

    def on_train_start(self) -> None:
        # Not earlier: sharded weights are restored only just before.
        self._begin_mean()

    def _begin_mean(self) -> None:
        if self.recipe.trainer.ema_decay is not None and self.ema is None:
            self.ema = WeightAverage(self.model, self.recipe.trainer.ema_decay)
            if self._ema_to_load is not None:
                self.ema.load(*self._ema_to_load)
                self._ema_to_load = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        place = (self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(torch_seed(Stream.STEP, self.recipe.trainer.seed, *place))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses = self.losses(batch, batch_idx)
        loss = reduce(torch.add, losses.values())
        value = loss.item()
        # fp16 overflows now and then while its scale is found; those steps are skipped and do not count.
        if math.isfinite(value):
            parts = dict(
                zip(losses, torch.stack([part.detach().float() for part in losses.values()]).tolist(), strict=True)
            )
            for name, part in {"loss": value, **parts}.items():
                self._loss_sums[name] = self._loss_sums.get(name, 0.0) + part
            self._loss_count += 1
        elif self.recipe.trainer.precision != "16-mixed":
            raise DivergedError(self._diverged(value))
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update()

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        # Lightning's own refuses fused optimizers under mixed precision, though only fp16's are a problem.
        if self.recipe.optimizer.clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.clip_grad_norm)

    @property
    def has_loss(self) -> bool:
        """Whether the epoch had a step with a finite loss yet."""
        return self._loss_count > 0

    def train_loss(self) -> float:
        """Mean training loss of the epoch so far, on this device; on the first, after `end_epoch`, of all.

        Raises:
            DivergedError: no step had a finite loss.
        """
        if not self._loss_count:
            raise DivergedError(self._diverged(float("nan")))
        return self._loss_sums["loss"] / self._loss_count

    def train_losses(self) -> dict[str, float]:
        """Its parts, likewise; empty where there is one alone."""
        parts = {name: total / self._loss_count for name, total in self._loss_sums.items() if name != "loss"}
        return parts if len(parts) > 1 else {}

    def end_epoch(self) -> None:
        """Makes the mean of the training loss on the first device that of all."""
        total = self._losses_of_all()
        self._loss_sums, self._loss_count = total if self.global_rank == 0 else ({}, 0)

    def _losses_of_all(self) -> tuple[dict[str, float], float]:
        """Sums and count of all devices' steps."""
        sums: dict[str, float] = {}
        ranks = self.gathered([(self._loss_sums, self._loss_count)])
        for of_rank, _ in ranks:
            for name, total in of_rank.items():
                sums[name] = sums.get(name, 0.0) + total
        return sums, sum(count for _, count in ranks)

    def start_epoch(self) -> None:
        """Begins a new mean of the training loss. Lightning's own hook also comes between two halves of an epoch."""
        self._loss_sums, self._loss_count = {}, 0

    def on_validation_start(self) -> None:
        # Problems stay named and counted from one validation to the next.
        self._begin(self.trainer.val_dataloaders)

    def _begin(self, loader: Any) -> None:
        self.unusable.total = len(loader.dataset.dataset)  # the loader's own is this rank's share
        self.begin_validation()
        if self.ema is not None:
            self._validation.enter_context(self.ema.applied())
        self._validation.enter_context(gathered(self.model))

    def measure(self, weights: Mapping[str, Tensor]) -> None:
        """From now on these, whole and by the model's names, are what is validated and tested."""
        self.ema = self.ema or WeightAverage(self.model, 1.0)
        self.ema.load(weights, self.ema.steps)

    def on_test_start(self) -> None:
        self._begin_mean()  # a run that was finished when it was resumed has not begun
        self.unusable = Unusable(0, "test images")
        self._begin(self.trainer.test_dataloaders)

    def test_step(self, *args: Any) -> None:
        self.validation_step(*args)

    def on_test_epoch_end(self) -> None:
        self.unusable.add(self.gathered(list(self.unusable.problems)))
        found = self.end_validation()
        self.test_metrics = {f"test_{name.removeprefix('val_')}": value for name, value in found.items()}

    def on_test_end(self) -> None:
        self._validation.close()

    def on_validation_epoch_end(self) -> None:
        self.unusable.add(self.gathered(list(self.unusable.problems)))
        # Every run ends with a validation, so that its summary is of all ranks too.
        train_samples: ReplacedSamples[Any] = self.trainer.datamodule.train_samples  # type: ignore[attr-defined]
        train_samples.add(self.gathered(train_samples.unusable))
        self.metrics = self.end_validation()

    def on_validation_end(self) -> None:
        self._validation.close()

    def gathered(self, items: list[Item]) -> list[Item]:
        """All ranks' items, rank by rank."""
        return [item for part in on_all(items) for item in part]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["swin"] = self.model.metadata()
        checkpoint["recipe"] = self.recipe.to_dict()
        sums, count = self._losses_of_all()
        checkpoint["train_loss"] = {"sums": sums, "count": count, "parts": self._parts_of_a_batch()}
        checkpoint["metrics"] = dict(self.metrics)
        if self.ema is not None:
            parts = self.recipe.trainer.checkpoints == "sharded"
            checkpoint["ema_state_dict"] = dict(self.ema.mean) if parts else self.ema.state_dict()
            checkpoint["ema_steps"] = self.ema.steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        data: TrainingData | None = getattr(self.trainer, "datamodule", None)
        if data is not None:
            # Not by what `data` was told, as Lightning comes here first.
            stretch = data.stretch(checkpoint.get(type(data).__qualname__, {}))
            counts = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
            begun = counts["ready"]  # the last of them may not be completed, which is one batch on any devices
            counts |= {name: int(begun * stretch) - (begun - count) for name, count in counts.items()}
        saved = checkpoint["train_loss"]
        # Checkpoints of before there were other tasks have one sum.
        sums = dict(saved["sums"]) if "sums" in saved else {"loss": saved["sum"]}
        # They are of all devices together, whose batches may have been smaller.
        factor = saved["parts"] / self._parts_of_a_batch() if "parts" in saved else 1
        sums = {name: total * factor for name, total in sums.items()}
        self._loss_sums, self._loss_count = (sums, saved["count"] * factor) if self.global_rank == 0 else ({}, 0)
        self.metrics = dict(checkpoint["metrics"])
        if "ema_state_dict" in checkpoint:
            self._ema_to_load = (checkpoint["ema_state_dict"], checkpoint["ema_steps"])

    def whole_weights(self) -> dict[str, Tensor]:
        """Those of the end of a run that shares its parameters, the running mean where there is one; see
        `whole_tensors`.
        """
        from .sharded_checkpoints import whole_tensors

        if self.ema is not None:
            return whole_tensors(self.ema.mean)
        return whole_tensors(self.model.state_dict() if self._ema_to_load is None else self._ema_to_load[0])

    def _parts_of_a_batch(self) -> float:
        """What a device's batch counts beside those of another number of devices, see `TrainingData.parts`."""
        data: TrainingData | None = getattr(self.trainer, "datamodule", None)
        return 1.0 if data is None else data.parts / self.trainer.world_size

    def _diverged(self, loss: float) -> str:
        return (
            f"the training loss became {loss} in epoch {self.current_epoch + 1}; use a smaller --optimizer.lr, a "
            f"longer --{self.warmup[0]}, or --trainer.precision 32-true"
        )


def _factor(schedule: Schedule, peak_lr: float) -> Any:
    return lambda step: schedule.at(step, peak_lr) / peak_lr
