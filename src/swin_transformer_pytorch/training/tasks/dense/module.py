"""What training a detector and a segmenter have in common: schedules and parameter groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ....models.mask2former import Mask2Former
from ...engine.module import Training
from ...engine.parameter_groups import decays_in_dense_models, decays_in_mask_transformer, parameter_groups
from ...engine.schedule import CosineSchedule, MultiStepSchedule, PolySchedule, Schedule, Warmup
from ...recipes.dense import DenseScheduleRecipe
from ...recipes.parts import chosen

if TYPE_CHECKING:
    from ....models.detection import Detector
    from ....models.segmentation import Segmenter
    from ...recipes.detection import DetectionRecipe
    from ...recipes.panoptic import PanopticRecipe
    from ...recipes.segmentation import SegmentationRecipe


class DenseTraining(Training):
    """Trains a model for a dense task by the official rules for these."""

    model: Detector | Segmenter | Mask2Former
    recipe: DetectionRecipe | SegmentationRecipe | PanopticRecipe

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # A validation batch, which is a list, is moved part by part.
        return batch if isinstance(batch, list) else batch.to(device)

    def schedule(self, total_steps: int) -> Schedule:
        chosen = self.recipe
        return dense_schedule(
            chosen.schedule, total_steps, peak_lr=chosen.optimizer.lr * self.lr_factor, factor=self.lr_factor
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        chosen = self.recipe.optimizer
        return parameter_groups(
            self.model,
            self.model.config.backbone.depths,
            lr=chosen.lr * self.lr_factor,
            weight_decay=chosen.weight_decay,
            layer_decay=chosen.layer_decay,
            backbone_lr=chosen.backbone_lr,
            rule=decays_in_mask_transformer(self.model)
            if isinstance(self.model, Mask2Former)
            else decays_in_dense_models,
        )


def dense_schedule(recipe: DenseScheduleRecipe, total_steps: int, *, peak_lr: float, factor: float = 1.0) -> Schedule:
    """The schedule that a recipe describes, of a run of that many optimizer steps.

    Args:
        recipe: which; its rise has a length.
        total_steps: of the whole run. Milestones in epochs are shares of it.
        peak_lr: the highest rate, scaled; a cosine's rise starts at a part of it.
        factor: what `recipe.min_lr` is scaled by.
    """
    assert recipe.warmup_steps is not None, "it has been chosen"
    warmup = Warmup(steps=min(recipe.warmup_steps, total_steps), ratio=recipe.warmup_ratio)
    if recipe.kind == "multistep":
        a_unit = 1.0 if recipe.epochs is None else total_steps / chosen(recipe.epochs)
        milestones = tuple(round(milestone * a_unit) for milestone in recipe.milestones)
        return MultiStepSchedule(warmup=warmup, milestones=milestones, gamma=recipe.gamma)
    if recipe.kind == "poly":
        return PolySchedule(warmup=warmup, total_steps=total_steps, power=recipe.power, min_lr=recipe.min_lr * factor)
    return CosineSchedule(
        total_steps=total_steps,
        warmup_steps=min(recipe.warmup_steps, total_steps - 1),
        warmup_lr=peak_lr * recipe.warmup_ratio,
        min_lr=recipe.min_lr * factor,
    )
