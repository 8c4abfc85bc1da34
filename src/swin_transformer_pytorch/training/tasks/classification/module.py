"""Classification training as a Lightning module: the loss, and a validation by accuracy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ....data.errors import DataError
from ....evaluation.classification import ClassificationCounts
from ....models.classification import SwinClassifier
from ...engine.module import DivergedError, Training
from ...engine.parameter_groups import parameter_groups
from ...engine.schedule import CosineSchedule
from ...engine.seeding import Stream, generator
from ...recipes.classification import Recipe
from ...recipes.parts import chosen
from .mixup import mix

__all__ = ["ClassificationTraining", "DivergedError"]


class ClassificationTraining(Training):
    """Trains a classifier. Metrics: "val_loss" (nats), "val_top1" and "val_top5" (in [0, 1]), "val_num_classes"."""

    main_metric = "val_top1"
    warmup = ("schedule.warmup_epochs", 20)
    model: SwinClassifier
    recipe: Recipe

    def __init__(
        self,
        model: SwinClassifier,
        recipe: Recipe,
        *,
        batch_size: int,
        class_weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(model, recipe, batch_size=batch_size)
        self._class_weights = None if class_weights is None else torch.tensor(class_weights)
        self._counts = ClassificationCounts(model.num_classes)
        self._val_loss = 0.0

    def schedule(self, total_steps: int) -> CosineSchedule:
        planned = self.recipe.schedule
        assert planned.warmup_epochs is not None, "it has been chosen"
        return CosineSchedule(
            total_steps=total_steps,
            warmup_steps=min(int(planned.warmup_epochs * total_steps / chosen(planned.epochs)), total_steps - 1),
            warmup_lr=planned.warmup_lr,
            min_lr=planned.min_lr,
        ).scaled(self.lr_factor)

    def parameter_groups(self) -> list[dict[str, Any]]:
        chosen = self.recipe.optimizer
        return parameter_groups(
            self.model,
            self.model.config.depths,
            lr=chosen.lr * self.lr_factor,
            weight_decay=chosen.weight_decay,
            layer_decay=chosen.layer_decay,
        )

    def losses(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        images, labels = batch
        random = generator(Stream.MIX, self.recipe.trainer.seed, self.current_epoch, batch_idx, self.global_rank)
        images, targets = mix(images, self.targets(labels), self.recipe.data.augmentation, random)
        logits = self.model(images).float()  # whatever their type
        weights = None if self._class_weights is None else self._class_weights.to(logits.device)
        return self.loss(logits, targets, weights)

    def targets(self, labels: Tensor) -> Tensor:
        """(B, classes): what the model is to say of each class."""
        return F.one_hot(labels, self.model.num_classes).float()

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
        """Of a batch, (B, classes) both, with the weights of the classes, (classes,)."""
        # Smoothing what is mixed is mixing what is smoothed.
        smoothing = self.recipe.loss.label_smoothing
        if weights is None:
            return {"loss_ce": F.cross_entropy(logits, targets, label_smoothing=smoothing)}
        # An image counts what its class does. As `weight=` they would multiply what smoothing gives the other classes
        # too, and a rare one's large weight would draw all images to it.
        losses = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        return {"loss_ce": (losses * (targets @ weights)).mean()}

    def begin_validation(self) -> None:
        self._counts = ClassificationCounts(self.model.num_classes)
        self._val_loss = 0.0

    def validation_step(self, batch: tuple[Tensor | None, Tensor, list[str]], batch_idx: int) -> None:
        images, labels, unusable = batch
        self.unusable.usable(unusable)
        if images is None:
            return
        self.count(self.model(images).float(), labels)

    def count(self, logits: Tensor, labels: Tensor) -> None:
        """Takes a batch of validation images."""
        self._counts.add(logits, labels)
        self._val_loss += F.cross_entropy(logits, labels, reduction="sum").item()

    def end_validation(self) -> dict[str, float]:
        counts = self._counts
        of_ranks = self.gathered([(counts.num_images, self._val_loss, counts.in_top1, counts.in_top5)])
        count, loss, top1, top5 = (sum(numbers) for numbers in zip(*of_ranks, strict=True))
        if not count:
            raise DataError("none of the validation images can be read; check the files")
        scores = {"val_loss": loss / count, "val_top1": top1 / count, "val_top5": top5 / count}
        return {**scores, "val_num_classes": self.model.num_classes}
