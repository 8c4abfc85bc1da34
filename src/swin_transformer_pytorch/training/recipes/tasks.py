"""The table of what can be trained: each task's recipe, and where its run is prepared. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

from ...models.config import Task
from .classification import Recipe
from .detection import DetectionRecipe
from .panoptic import PanopticRecipe
from .pretraining import PretrainingRecipe
from .segmentation import SegmentationRecipe

AnyRecipe = Recipe | DetectionRecipe | SegmentationRecipe | PanopticRecipe | PretrainingRecipe


class TrainedTask(NamedTuple):
    """A task.

    Attributes:
        recipe: what a recipe's `task` makes of its other keys.
        prepare: the module of `training` whose `prepare(recipe, device)` opens the data and builds the model. It needs
            torch, so that it is imported when a run begins.
    """

    recipe: type[AnyRecipe]
    prepare: str


TASKS: dict[Task, TrainedTask] = {
    "classification": TrainedTask(Recipe, "tasks.classification.prepare"),
    "detection": TrainedTask(DetectionRecipe, "tasks.detection.prepare"),
    "segmentation": TrainedTask(SegmentationRecipe, "tasks.segmentation.prepare"),
    "panoptic": TrainedTask(PanopticRecipe, "tasks.panoptic.prepare"),
    "pretraining": TrainedTask(PretrainingRecipe, "tasks.pretraining.prepare"),
}
