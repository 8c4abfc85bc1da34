"""From a recipe's `model` to a model: described, built, and filled with the weights that it starts from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ...backbone.config import SwinConfig
from ...colours import Colour
from ...models.build import build
from ...models.config import MaskedConfig, Task
from ...models.description import ModelDescription
from ...models.mask2former_config import LEAST_PROBABILITY, Mask2FormerConfig
from ...models.registry import describe_named, describe_source
from ...models.size import count_parameters
from ...weights.checkpoint import DENSE_TASKS
from ...weights.errors import CheckpointError
from ...weights.load import Checkpoint, load_weights, open_checkpoint
from ...weights.methods import method_of
from ...weights.preprocessing import DensePreprocessing, Preprocessing
from ..recipes.parts import ModelRecipe, RecipeError, check_answers
from .batch_sizes import machine_memory

if TYPE_CHECKING:
    from ...models.build import Model

_log = logging.getLogger(__name__)


def build_model(
    recipe: ModelRecipe,
    task: Task,
    classes: tuple[str, ...],
    *,
    multi_label: bool = False,
    palette: tuple[Colour, ...] | None = None,
    things: tuple[int, ...] | None = None,
    prepare: Callable[[Any, Any], Any] = lambda known, own: known,
) -> Model:
    """The recipe's model for a task with these classes, and with the weights that it starts from.

    Args:
        recipe: which model.
        task: of the recipe.
        classes: the data's.
        multi_label: classification: whether an image may have any number of them.
        palette: of models that colour pixels: their colours, or None.
        things: panoptic models: which of them are things.
        prepare: from the preprocessing that the model is known to have and that of the weights, each or None, to the
            one for this run. Where it differs from that of the weights, that is said.

    Raises:
        RecipeError: `recipe.num_classes` is another number than that of the classes, the weights are another task's, or
            the model has no room in this machine's memory.
    """
    if recipe.num_classes not in (None, len(classes)):
        raise RecipeError(
            f"model.num_classes={recipe.num_classes}, but the data has {len(classes)} classes; leave it out"
        )
    if task == "panoptic" and "things" in recipe.config_overrides:
        raise RecipeError(
            f"model.config_overrides has things={recipe.config_overrides['things']!r}, and which classes are things is "
            "what the data says: leave it out (label and instance PNGs have things.txt, or --data.things)"
        )
    known, checkpoint = _describe(recipe, task, len(classes))
    own = checkpoint.preprocessing if checkpoint is not None and checkpoint.task == task else None
    if isinstance(own, DensePreprocessing) and own.squeeze and getattr(known.config, "policy", None) == "authors":
        _log.warning(
            "model.weights=%r come with images squeezed to a square and transformers' rules for answers; training "
            "takes the authors', with images that keep their shape (config_overrides.policy transformers keeps theirs)",
            recipe.weights,
        )
        own = None
    chosen = prepare(known.preprocessing, own)
    description = dataclasses.replace(
        known,
        config=known.config.replace(things=things) if task == "panoptic" else known.config,
        classes=classes or None,
        multi_label=multi_label,
        palette=palette,
        preprocessing=chosen,
    )
    if differences := _differences(own, chosen):
        _log.warning("preprocessing differs from that of the weights: %s", differences)
    _check_memory(description)
    model = build(description)
    if checkpoint is not None:
        checkpoint = _backbone_where_another(checkpoint, model.state_dict(), task)
        try:
            _log.warning("%s", load_weights(model, checkpoint))
        except CheckpointError as error:
            if recipe.name is None:
                raise
            fix = f"to train the model that these weights are of, add --model.name null (it is {recipe.name} now)"
            raise type(error)(f"model.weights={recipe.weights!r}: {fix}\n{error}") from error
    if recipe.init == "fan_in":
        _init_by_fan_in(model)
    return model


def known_channels(recipe: ModelRecipe, task: Task) -> int:
    """Channels of the images that the recipe's model takes, or the weights where they alone say what it is."""
    config = recipe.described_config(task) or describe_source(recipe.weights or "")[0].config
    return config.in_channels if isinstance(config, SwinConfig) else config.backbone.in_channels


def _backbone_where_another(checkpoint: Checkpoint, target: Mapping[str, Tensor], task: Task) -> Checkpoint:
    """The backbone alone of a dense model that detects or segments in another way than the one to be trained."""
    theirs, ours = method_of(checkpoint.state_dict), method_of(target)
    if task not in DENSE_TASKS or theirs is None or ours is None or theirs.part == ours.part:
        return checkpoint
    _log.warning(
        "%s is %s: its backbone starts this %s, whose heads are left as initialised",
        checkpoint.source,
        theirs.name,
        ours.name,
    )
    return checkpoint.backbone_alone()


def _check_memory(description: ModelDescription) -> None:
    if (memory := machine_memory()) is None:
        return
    count = count_parameters(lambda: build(description))
    if 4 * count > memory:
        raise RecipeError(
            f"the recipe's model has {count:,} parameters, {4 * count / 2**30:.1f} GiB, and this machine "
            f"{memory / 2**30:.1f} GiB of memory; use a smaller model"
        )


def _differences(
    theirs: Preprocessing | DensePreprocessing | None, ours: Preprocessing | DensePreprocessing | None
) -> str:
    """What differs between two of one kind, "name: theirs -> ours"; empty for nothing, and where one is not known."""
    if theirs is None or ours is None:
        return ""
    pairs = {item.name: [getattr(side, item.name) for side in (theirs, ours)] for item in dataclasses.fields(theirs)}
    return ", ".join(f"{name}: {their} -> {our}" for name, (their, our) in pairs.items() if their != our)


def _describe(recipe: ModelRecipe, task: Task, num_classes: int) -> tuple[ModelDescription, Checkpoint | None]:
    """The recipe's model with that many classes, whose names are left to the caller, and the weights for it."""
    overrides, which = recipe.overrides, recipe.which
    described: ModelDescription
    if recipe.name is not None:
        if isinstance(recipe.described_config(task), Mask2FormerConfig):
            overrides = {"policy": "authors", **overrides}
        described, checkpoint = describe_named(recipe.name, recipe.weights, num_classes, which=which, **overrides)
    elif recipe.config is not None:
        config = recipe.described_config(task)
        assert config is not None, "it is given"
        described = ModelDescription(config=config)
        checkpoint = open_checkpoint(recipe.weights, which=which) if recipe.weights is not None else None
    else:
        assert recipe.weights is not None, "the recipe has checked that there is a model"
        described, checkpoint = describe_source(recipe.weights, which)
        if task == "classification" and isinstance(described.config, MaskedConfig):
            described = _classifier_of(described)
        if described.task != task:
            raise RecipeError(
                f"model.weights={recipe.weights!r} is a model for {described.task} and this recipe is for {task}; "
                "give model.name too, or weights for this task"
            )
        if isinstance(described.config, Mask2FormerConfig) and described.config.policy != "authors":
            if "policy" not in overrides:
                overrides = {"policy": "authors", "segment_threshold": LEAST_PROBABILITY["authors"], **overrides}
                described = dataclasses.replace(described, preprocessing=None)
        config = described.config.replace(**overrides)
        check_answers(config, task)
        described = dataclasses.replace(described, config=config)
    return described.with_num_classes(num_classes), checkpoint


def _classifier_of(masked: ModelDescription) -> ModelDescription:
    """A classifier with the backbone of a model of masked pre-training."""
    assert isinstance(masked.config, MaskedConfig), "it is one"
    known = masked.preprocessing
    assert known is None or isinstance(known, Preprocessing), "it is as a classifier's"
    # As the official fine-tuning resizes, which masked pre-training does bilinearly.
    preprocessing = None if known is None else dataclasses.replace(known, interpolation="bicubic")
    return ModelDescription(config=masked.config.backbone, num_classes=0, preprocessing=preprocessing)


def _init_by_fan_in(model: nn.Module) -> None:
    """The backbone's, in place; heads have rules of their own."""
    for name, parameter in getattr(model, "backbone", model).named_parameters():
        if parameter.ndim == 2 and name.endswith(".weight") and not name.startswith("head."):
            nn.init.trunc_normal_(parameter, std=parameter.shape[1] ** -0.5)
