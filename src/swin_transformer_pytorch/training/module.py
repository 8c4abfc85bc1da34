"""Classification training as a Lightning module: a step, a validation, the optimizer, and what a checkpoint holds."""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from ..data.errors import DataError
from ..models.classification import SwinClassifier, smooth_targets, soft_cross_entropy
from .ema import WeightAverage
from .mixup import mix
from .parameter_groups import parameter_groups
from .recipe import Recipe
from .schedule import CosineSchedule
from .seeding import Stream, generator, torch_seed
from .strategy import shard

_log = logging.getLogger(__name__)


class DivergedError(ValueError):
    """The training loss is no longer a number."""


class ClassificationTraining(LightningModule):
    """Trains `model` as `recipe` says.

    All randomness of a step is a function of (seed, epoch, batch, rank). These whole numbers are thus the whole random
    state of a run, on any number of devices, and a checkpoint at any step continues it exactly.

    Attributes:
        model: the classifier; the module's parameters are its own under "model.".
        ema: the running mean of the weights, or None. It is what is validated.
        metrics: of the last validation: "val_loss" (nats), "val_top1" and "val_top5" (in [0, 1]); empty before.
    """

    def __init__(self, model: SwinClassifier, recipe: Recipe, *, batch_size: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.batch_size = batch_size
        self.ema: WeightAverage | None = None
        self.metrics: dict[str, float] = {}
        self._loss_sum, self._loss_count = 0.0, 0
        self._ema_to_load: tuple[dict[str, Tensor], int] | None = None
        self._validation = ExitStack()
        self._sharded = False
        self._val_sums = torch.zeros(4, dtype=torch.float64)

    @property
    def lr_factor(self) -> float:
        """What the recipe's learning rates are multiplied by: the linear scaling rule."""
        if self.recipe.optimizer.scale_lr is None:
            return 1.0
        global_batch = self.batch_size * self.trainer.world_size * self.recipe.trainer.accumulate
        return global_batch / self.recipe.optimizer.scale_lr

    def configure_model(self) -> None:
        if self._device_mesh is not None and not self._sharded:
            shard(self.model, self._device_mesh["data_parallel"])
            self._sharded = True

    def configure_optimizers(self) -> Any:
        chosen, planned = self.recipe.optimizer, self.recipe.schedule
        total = int(self.trainer.estimated_stepping_batches)
        groups = parameter_groups(
            self.model,
            self.model.config.depths,
            lr=chosen.lr * self.lr_factor,
            weight_decay=chosen.weight_decay,
            layer_decay=chosen.layer_decay,
        )
        # Fused AdamW would unscale fp16 gradients itself, after they are clipped.
        fused = self.trainer.precision != "16-mixed"
        optimizer = AdamW(groups, betas=chosen.betas, eps=chosen.eps, fused=fused)
        schedule = CosineSchedule(
            total_steps=total,
            warmup_steps=min(int(planned.warmup_epochs * total / planned.epochs), total - 1),
            warmup_lr=planned.warmup_lr,
            min_lr=planned.min_lr,
        ).scaled(self.lr_factor)
        factors = [_factor(schedule, group["lr"]) for group in groups]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"},
        }

    def on_train_start(self) -> None:
        # Not earlier: sharded weights are restored only just before.
        if self.recipe.trainer.ema_decay is not None:
            self.ema = WeightAverage(self.model, self.recipe.trainer.ema_decay)
            if self._ema_to_load is not None:
                self.ema.load(*self._ema_to_load)
                self._ema_to_load = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        place = (self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(torch_seed(Stream.STEP, self.recipe.trainer.seed, *place))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        targets = smooth_targets(labels, self.model.num_classes, self.recipe.loss.label_smoothing)
        random = generator(Stream.MIX, self.recipe.trainer.seed, self.current_epoch, batch_idx, self.global_rank)
        images, targets = mix(images, targets, self.recipe.data.augmentation, random)
        loss = soft_cross_entropy(self.model(images), targets)
        value = loss.item()
        # fp16 overflows now and then while its scale is found; those steps are skipped and do not count.
        if math.isfinite(value):
            self._loss_sum += value
            self._loss_count += 1
        elif self.recipe.trainer.precision != "16-mixed":
            raise DivergedError(_diverged(value, self.current_epoch))
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
        """Mean training loss of the epoch so far, on this device.

        Raises:
            DivergedError: no step had a finite loss.
        """
        if not self._loss_count:
            raise DivergedError(_diverged(float("nan"), self.current_epoch))
        return self._loss_sum / self._loss_count

    def start_epoch(self) -> None:
        """Begins a new mean of the training loss. Lightning's own hook also comes between two halves of an epoch."""
        self._loss_sum, self._loss_count = 0.0, 0

    def on_validation_start(self) -> None:
        self._val_sums.zero_()
        if self.ema is not None:
            self._validation.enter_context(self.ema.applied())

    def validation_step(self, batch: tuple[Tensor | None, Tensor, list[str]], batch_idx: int) -> None:
        images, labels, unreadable = batch
        for message in unreadable:
            _log.warning("skipped: %s", message)
        if images is None:
            return
        logits = self.model(images).float()
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels.unsqueeze(1)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        self._val_sums += torch.tensor(
            [len(labels), loss.item(), best[:, 0].sum().item(), best.sum().item()], dtype=torch.float64
        )

    def on_validation_epoch_end(self) -> None:
        sums = self._val_sums
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.float().to(self.device), reduce_op="sum").cpu()
        count, loss, top1, top5 = sums.tolist()
        if not count:
            raise DataError("none of the validation images can be read; check the files")
        self.metrics = {"val_loss": loss / count, "val_top1": top1 / count, "val_top5": top5 / count}

    def on_validation_end(self) -> None:
        self._validation.close()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["swin"] = self.model.metadata()
        checkpoint["recipe"] = self.recipe.to_dict()
        checkpoint["train_loss"] = {"sum": self._loss_sum, "count": self._loss_count}
        checkpoint["metrics"] = dict(self.metrics)
        if self.ema is not None:
            checkpoint["ema_state_dict"] = self.ema.state_dict()
            checkpoint["ema_steps"] = self.ema.steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._loss_sum, self._loss_count = checkpoint["train_loss"]["sum"], checkpoint["train_loss"]["count"]
        self.metrics = dict(checkpoint["metrics"])
        if "ema_state_dict" in checkpoint:
            self._ema_to_load = (checkpoint["ema_state_dict"], checkpoint["ema_steps"])


def _diverged(loss: float, epoch: int) -> str:
    return (
        f"the training loss became {loss} in epoch {epoch + 1}; use a smaller --optimizer.lr, a longer "
        "--schedule.warmup_epochs, or --trainer.precision 32-true"
    )


def _factor(schedule: CosineSchedule, peak_lr: float) -> Any:
    return lambda step: schedule.at(step, peak_lr) / peak_lr
