"""From a name to a model, with or without weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..backbone.complexity import count_parameters
from ..backbone.config import VARIANTS, SwinConfig, find_variant
from ..weights.catalog import find_record
from ..weights.imagenet_classes import class_names
from ..weights.load import Checkpoint, CheckpointError, load_weights, open_checkpoint
from ..weights.preprocessing import Preprocessing
from .backbone import SwinBackbone
from .classification import SwinClassifier

_log = logging.getLogger(__name__)

TASKS = ("classification",)
SHIPPED = {"fashion": Path(__file__).parents[1] / "weights" / "pretrained" / "swin_fashion.safetensors"}
"""Weights that are inside the package, by the name that `load_model` and `swin predict --weights` take."""


def list_models(task: str | None = None) -> list[str]:
    """Names that `create_model` takes; `task` is "classification" or None for all."""
    if task is not None and task not in TASKS:
        raise ValueError(f"task={task!r} is not one of: {', '.join(TASKS)}")
    return sorted(VARIANTS)


def create_model(
    name: str,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    in_channels: int = 3,
    **config_overrides: Any,
) -> SwinClassifier:
    """Builds the model of an official name, such as "swin_tiny_patch4_window7_224".

    Args:
        name: one of `list_models()`; "name.tag" is short for `weights=tag`.
        weights: None (random), "default", a catalogue tag such as "in22k", a path, a URL, or a hub id
            "owner/repository", in any known format.
        num_classes: None for as many as the weights have (1000 without weights); another number starts the head
            afresh; 0 leaves it out, the model then gives pooled features.
        in_channels: channels of the images. The first convolution of the weights is adapted to them.
        config_overrides: fields of `SwinConfig`, such as `window_size=12` or `drop_path_rate=0.3`.

    Raises:
        ValueError: for an unknown name, tag or field, or a checkpoint that does not fit; the message says which.
    """
    name, weights = _split_tag(name, weights)
    config = find_variant(name).config.replace(in_channels=in_channels, **config_overrides)
    checkpoint = open_checkpoint(weights, name=name) if weights is not None else None
    classes: tuple[str, ...] | None = None
    if checkpoint is not None and num_classes in (None, checkpoint.num_classes):
        num_classes, classes = checkpoint.num_classes, checkpoint.classes
    if checkpoint is not None and checkpoint.metadata is None and num_classes == 1000:
        # Another project's file with a head of 1000 classes, or of 22K that is mapped to them, is ImageNet's.
        classes = class_names("imagenet1k") if checkpoint.num_classes in (1000, 21841) else None
    model = SwinClassifier(
        config,
        num_classes=1000 if num_classes is None else num_classes,
        classes=classes,
        preprocessing=_preprocessing(checkpoint, name, in_channels),
        name=name,
    )
    if checkpoint is not None:
        _load(model, checkpoint)
    return model


def create_backbone(
    name: str,
    weights: str | Path | None = None,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    in_channels: int = 3,
    **config_overrides: Any,
) -> SwinBackbone:
    """Builds the backbone of that name for dense tasks: `forward(images)` gives a list of (B, C_i, H_i, W_i) maps.

    As in the official detection and segmentation code, a window that covers a whole map keeps its size and shift
    (`single_window="keep"`). Arguments are those of `create_model`; `out_indices` are the stages whose maps it gives.
    """
    name, weights = _split_tag(name, weights)
    overrides = {"single_window": "keep", **config_overrides}
    config = find_variant(name).config.replace(in_channels=in_channels, **overrides)
    model = SwinBackbone(config, out_indices=out_indices, name=name)
    if weights is not None:
        _load(model, open_checkpoint(weights, name=name))
    return model


def load_model(source: str | Path) -> SwinClassifier:
    """The model that a checkpoint of ours describes, with its weights, class names and preprocessing.

    `source` is a path or URL of such a file, "name.tag" or a plain name of the catalogue, or "fashion" for the small
    Fashion-MNIST model that is in the package.
    """
    if str(source) in SHIPPED:
        source = SHIPPED[str(source)]
    elif str(source).partition(".")[0] in VARIANTS and not Path(source).exists():
        return create_model(str(source), weights=None if "." in str(source) else "default")
    checkpoint = open_checkpoint(source)
    if checkpoint.metadata is None or checkpoint.config is None:
        raise CheckpointError(
            f"{source} does not say which model it is for: give its name too, "
            f'create_model("swin_tiny_patch4_window7_224", weights={str(source)!r}), or --model on the command line; '
            "`swin models` lists the names"
        )
    model = _described_model(checkpoint, checkpoint.config, checkpoint.metadata)
    _load(model, checkpoint)
    return model


def _described_model(checkpoint: Checkpoint, config: SwinConfig, metadata: dict[str, Any]) -> SwinClassifier:
    """The model, with random weights, that the checkpoint's description is of."""
    if metadata["task"] not in TASKS:
        raise CheckpointError(
            f"{checkpoint.source} is for task={metadata['task']!r}; this version has: {', '.join(TASKS)}"
        )
    # Before anything is built: a description may claim any size.
    described = count_parameters(config, metadata["num_classes"])
    held = sum(tensor.numel() for tensor in checkpoint.state_dict.values())
    if described != held:
        raise CheckpointError(
            f"{checkpoint.source} describes a model of {described:,} parameters and holds {held:,}: save it again"
        )
    return SwinClassifier(
        config,
        num_classes=metadata["num_classes"],
        classes=checkpoint.classes,
        preprocessing=checkpoint.preprocessing,
        name=metadata["name"],
    )


def _load(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Loads and logs what that did: as a warning where a parameter is not the checkpoint's own."""
    report = load_weights(model, checkpoint)
    changed = report.resized or report.sliced or report.adapted or report.fresh
    _log.log(logging.WARNING if changed else logging.INFO, "%s", report)


def _split_tag(name: str, weights: str | Path | None) -> tuple[str, str | Path | None]:
    name, dot, tag = name.partition(".")
    if dot and weights is not None:
        raise ValueError(f"name {name}.{tag!s} and weights={str(weights)!r} both say which weights; give one of them")
    if dot:
        find_record(name, tag)
    return name, tag if dot else weights


def _preprocessing(checkpoint: Checkpoint | None, name: str, in_channels: int) -> Preprocessing | None:
    """The checkpoint's own, else ImageNet's for the variant. Grey images take the mean over the colours."""
    known = checkpoint.preprocessing if checkpoint is not None else None
    known = known or Preprocessing.imagenet(find_variant(name).image_size)
    if in_channels == known.channels:
        return known
    if in_channels != 1:
        return None
    mean, std = sum(known.mean) / known.channels, sum(known.std) / known.channels
    return Preprocessing(
        image_size=known.image_size,
        resize_size=known.resize_size,
        interpolation=known.interpolation,
        mean=(mean,),
        std=(std,),
    )
