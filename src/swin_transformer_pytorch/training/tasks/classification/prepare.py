"""A classifier's run, before its first step: its data opened, its model built."""

from __future__ import annotations

import functools
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import torch

from ....data.choice import require_two_classes
from ....data.classification.multi_label import has_label_file
from ....data.errors import DataError, some
from ....models.classification import SwinClassifier
from ...recipes.classification import Recipe
from ...recipes.parts import RecipeError, require_one_a_class
from ...recipes.proposals import FINE_TUNING, class_folders, dense_tasks, has_label_folders
from ..batch_sizes import settle
from ..channels import settle_channels
from ..models import build_model
from .data import ClassificationData, Splits, choose_preprocessing, open_splits
from .module import ClassificationTraining
from .multi_label import MultiLabelTraining

_log = logging.getLogger(__name__)


def prepare(recipe: Recipe, device: str) -> tuple[ClassificationTraining, ClassificationData]:
    """What trains by the recipe, and on what. `device` is what the run will be on: "cpu", "cuda" or "mps"."""
    if recipe.data.kind == "folder" and recipe.data.root is not None and has_label_file(recipe.data.root):
        recipe = recipe.replace({"data.kind": "multi_label"})
    multi_label = recipe.data.kind == "multi_label"
    if recipe.data.kind == "folder":
        require_two_classes(recipe.data.classes)
    chosen = recipe.data.class_order is not None or recipe.data.classes is not None
    if recipe.data.kind == "folder" and recipe.data.root is not None and not chosen:
        _check_task(Path(recipe.data.root))
    if recipe.data.sampling == recipe.loss.class_weights == "balanced":
        both = "data.sampling=balanced and loss.class_weights=balanced"
        _log.warning("%s: rare classes are made up for twice; leave one of them out", both)
    splits = open_splits(recipe.data, seed=recipe.trainer.seed)
    recipe, channels = with_channels(recipe, splits)
    torch.manual_seed(recipe.trainer.seed)
    choose = functools.partial(choose_preprocessing, recipe.data, channels, images=splits.train)
    model = cast(
        SwinClassifier,
        build_model(recipe.model, "classification", splits.classes, multi_label=multi_label, prepare=choose),
    )
    assert model.preprocessing is not None, "it has just been chosen"
    stride = max(model.config.stage_strides[-1])
    if min(model.preprocessing.image_size) < stride:
        size = " x ".join(map(str, model.preprocessing.image_size))
        text = "images of %s pixels are smaller than a cell of the model's last stage, %d: raise data.image_size"
        _log.warning(text, size, stride)
    if recipe.data.image_size == "auto":
        recipe = recipe.replace({"data.image_size": model.preprocessing.image_size})
    training = MultiLabelTraining if multi_label else ClassificationTraining

    def make(settled: Recipe) -> tuple[ClassificationTraining, ClassificationData]:
        assert model.preprocessing is not None
        data = ClassificationData(settled, splits, model.preprocessing)
        images = data.num_images if multi_label else None
        weights = class_weights(settled.loss.class_weights, data.class_counts(), images)
        return training(model, settled, batch_size=data.batch_size, class_weights=weights), data

    return settle(recipe, len(splits.train), device, make)


def _check_task(root: Path) -> None:
    """Raises a `DataError` where folders are annotated for another task, and are no classes."""
    found, quoted = dense_tasks(root), shlex.quote(str(root))
    recipes = [FINE_TUNING[task] for task in found or ("detection", "segmentation")]
    fix = (
        f"{' or '.join(f'`swin train {one} --data.root {quoted}`' for one in recipes)}; `swin data {quoted}` tells more"
    )
    if has_label_folders(root) or (found and len(class_folders(root)) < 2):
        what = " and ".join(found) or "another task"
        raise DataError(
            f"{root} holds images annotated for {what}, not a folder a class: {fix}. If its folders are classes, "
            "name them in --data.classes"
        )
    if found:
        _log.warning("%s: its folders are the classes, though it has annotations for %s: %s", root, found[0], fix)


def with_channels(recipe: Recipe, splits: Splits) -> tuple[Recipe, int]:
    """The recipe for images of as many channels as it says or they have, with which they are read from now on.

    Raises:
        DataError: the images have different numbers of them.
    """
    channels = settle_channels(recipe.model, "classification", splits.train, (splits.val, splits.test))
    changes, recipe = recipe.data.augmentation, recipe.replace({"model.in_channels": channels})
    if channels in (1, 3) or not (changes.auto_augment or changes.color_jitter):
        return recipe, channels
    text = (
        "data.augmentation: auto_augment=%s and color_jitter=%s are left out, as images of %d channels have no colours"
    )
    _log.warning(text, changes.auto_augment, changes.color_jitter, channels)
    return recipe.replace({"data.augmentation.auto_augment": None, "data.augmentation.color_jitter": 0.0}), channels


def class_weights(
    chosen: tuple[float, ...] | Literal["balanced"] | None, counts: Mapping[str, int], images: int | None = None
) -> tuple[float, ...] | None:
    """The recipe's `loss.class_weights` as numbers, one a class.

    Args:
        chosen: by the recipe.
        counts: training images of each class.
        images: how many these are together, where each may have several classes; its weights are of a class's presence.

    Raises:
        RecipeError: there are more or fewer numbers than classes, or a class without a training image to be balanced.
    """
    if chosen is None or isinstance(chosen, tuple):
        require_one_a_class(chosen, len(counts))
        return chosen
    if images is not None and (everywhere := [name for name, count in counts.items() if count == images]):
        raise RecipeError(
            f"loss.class_weights='balanced', but all training images have {some(everywhere)}; leave it out"
        )
    if empty := [name for name, count in counts.items() if not count]:
        raise RecipeError(f"loss.class_weights='balanced', but there is no training image of {some(empty)}; add some")
    if images is not None:
        return tuple((images - count) / count for count in counts.values())
    mean = sum(counts.values()) / len(counts)
    return tuple(mean / count for count in counts.values())
