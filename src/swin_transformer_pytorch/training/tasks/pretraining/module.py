"""Masked pre-training as a Lightning module: the loss, and a validation by the same loss with masks that stay."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ....checks import plural
from ....data.errors import DataError
from ....data.images.masking import MaskRule
from ....models.masked import MaskedSwin
from ...engine.module import Training
from ...engine.parameter_groups import parameter_groups
from ...engine.schedule import CosineSchedule, Schedule, StepSchedule
from ...recipes.parts import chosen
from ...recipes.pretraining import PretrainingRecipe

Batch = tuple[Tensor, Tensor]


class PretrainingTraining(Training):
    """Pre-trains a backbone. Metric: "val_loss", the mean distance of hidden pixels from their target, in its unit."""

    main_metric = "val_loss"
    lower_is_better = True
    warmup = ("schedule.warmup_epochs", 10)
    model: MaskedSwin
    recipe: PretrainingRecipe

    def __init__(self, model: MaskedSwin, recipe: PretrainingRecipe, *, batch_size: int) -> None:
        super().__init__(model, recipe, batch_size=batch_size)
        self._val_loss, self._measured = 0.0, 0

    def schedule(self, total_steps: int) -> Schedule:
        planned, factor = self.recipe.schedule, self.lr_factor
        assert planned.warmup_epochs is not None, "it has been chosen"
        an_epoch = total_steps / chosen(planned.epochs)
        warmup_steps = min(int(planned.warmup_epochs * an_epoch), total_steps - 1)
        if planned.kind == "multistep":
            return StepSchedule(
                warmup_steps=warmup_steps,
                warmup_lr=planned.warmup_lr * factor,
                milestones=tuple(round(milestone * an_epoch) for milestone in planned.milestones),
                gamma=planned.gamma,
            )
        return CosineSchedule(
            total_steps=total_steps, warmup_steps=warmup_steps, warmup_lr=planned.warmup_lr, min_lr=planned.min_lr
        ).scaled(factor)

    def parameter_groups(self) -> list[dict[str, Any]]:
        planned = self.recipe.optimizer
        return parameter_groups(
            self.model,
            self.model.config.backbone.depths,
            lr=planned.lr * self.lr_factor,
            weight_decay=planned.weight_decay,
            layer_decay=planned.layer_decay,
        )

    def losses(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self.model.losses(*batch)

    def begin_validation(self) -> None:
        self._val_loss, self._measured = 0.0, 0

    def validation_step(self, batch: tuple[Batch | None, list[str]], batch_idx: int) -> None:
        masked, unusable = batch
        self.unusable.usable(unusable)
        if masked is None:
            return
        # All images hide as many pixels, so that the mean of a batch counts what its images do.
        count = len(masked[0])
        self._val_loss += self.model.losses(*masked)["loss_masked"].item() * count
        self._measured += count

    def end_validation(self) -> dict[str, float]:
        of_ranks = self.gathered([(self._val_loss, self._measured)])
        loss, count = (sum(numbers) for numbers in zip(*of_ranks, strict=True))
        if not count:
            raise DataError("none of the validation images can be read; check the files")
        return {"val_loss": loss / count}

    def facts(self) -> dict[str, str]:
        config, preprocessing = self.model.config, self.model.preprocessing
        assert preprocessing is not None, "it was chosen for this run"
        rule, unit = MaskRule.of(config, preprocessing.image_size), config.mask_unit
        return {
            "hidden": f"{rule.num_hidden} of {plural(rule.num_squares, 'square')} of {unit} x {unit} pixels",
            "target": config.foretold,
        }
