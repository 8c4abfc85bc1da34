"""From a name to a model, with or without weights."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from ..backbone.config import VARIANTS, ConfigError, SwinConfig, find_variant
from ..weights.catalog import SHIPPED, CatalogError, find_record, records
from ..weights.containers import Which
from ..weights.imagenet_classes import class_names
from ..weights.load import Checkpoint, CheckpointError, load_weights, open_checkpoint
from ..weights.preprocessing import DensePreprocessing, Preprocessing
from .backbone import SwinBackbone
from .build import build, build_backbone
from .config import (
    OTHER_VARIANTS,
    TASKS,
    DenseConfig,
    MaskedVariant,
    ModelConfig,
    Task,
    find_other_variant,
    model_names,
    task_of,
)
from .description import PAINTED, ModelDescription
from .exported import ExportedDetector, ExportedMask2Former, ExportedModel
from .mask2former_config import LEAST_PROBABILITY, Mask2FormerConfig
from .runtimes import ExportedFile, is_exported
from .size import check_size

if TYPE_CHECKING:
    from .build import Model

_log = logging.getLogger(__name__)

# Arguments of timm's `create_model` that are called otherwise here.
_TIMM = {
    "pretrained": 'give weights="default", or leave it out for random weights',
    "checkpoint_path": "give weights=",
    "in_chans": "give in_channels=",
    "img_size": "leave it out, any image size is taken",
    "features_only": "call create_backbone(name, weights), or model.forward_intermediates(images)",
    "out_indices": "call create_backbone(name, weights, out_indices)",
    "global_pool": "leave it out, it is the mean; model.forward_features(images) gives the map",
}


def list_models(task: str | None = None) -> list[str]:
    """Names that `create_model` takes; `task` is "classification", "detection", "segmentation", "panoptic",
    "pretraining", or None for all.

    Raises:
        ValueError: there is no such task.
    """
    return sorted(model_names(task))


def create_model(
    name: str,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    in_channels: int = 3,
    *,
    which: Which | None = None,
    **config_overrides: Any,
) -> Model:
    """Builds the model of an official name, such as "swin_tiny_patch4_window7_224".

    A name of `list_models("detection")` gives a `Detector`, of "segmentation" a `Segmenter`, of "panoptic" a
    `Mask2Former`, of "pretraining" a `MaskedSwin`; any other a `SwinClassifier`. Names of any task that begin with
    "mask2former" give a `Mask2Former`.

    Args:
        name: one of `list_models()`; "name.tag" is short for `weights=tag`. A model in the package, such as "fashion",
            comes with its weights.
        weights: None (random), "default", a catalogue tag such as "in22k", a path, a URL, or a hub id
            "owner/repository", in any known format, also a folder of transformers. A detector or segmenter also takes
            a classifier's, such as "swin_tiny_patch4_window7_224.in1k", which fill its backbone.
        num_classes: None for as many as the weights have (without weights: 1000 of a classifier, COCO's 80 of a
            detector, its 133 of a panoptic model, ADE20K's 150 of a segmenter); another number starts what depends on
            it afresh. 0 leaves a classifier's head out, the model then gives pooled features.
        in_channels: channels of the images. The first convolution of the weights is adapted to them.
        which: of a training's checkpoint the "averaged" or the "raw" weights. None: the averaged of ours, and what
            `state_dict`, `model` or the like holds of others'.
        config_overrides: fields of `SwinConfig`, such as `window_size=12` or `drop_path_rate=0.3`, and those of
            `DetectorConfig`, `SegmenterConfig` or `Mask2FormerConfig`.

    Raises:
        ValueError: for an unknown name, tag or field, or a checkpoint that does not fit; the message says which.
    """
    for argument in config_overrides:
        if argument in _TIMM:
            raise ConfigError(f"create_model has no argument {argument!r}, which is timm's: {_TIMM[argument]}")
    if name in SHIPPED:
        given = {"weights": weights not in (None, "default"), "in_channels": in_channels != 3, "which": which}
        if wrong := [*(argument for argument, is_given in given.items() if is_given), *config_overrides]:
            raise ConfigError(f"{name!r} is a model with its weights, whose {', '.join(wrong)} are its own: leave out")
        return checkpoint_model(name, num_classes)
    described, checkpoint = describe_named(
        name, weights, num_classes, which=which, in_channels=in_channels, **config_overrides
    )
    return _filled(described, checkpoint)


def create_backbone(
    name: str,
    weights: str | Path | None = None,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    in_channels: int = 3,
    *,
    which: Which | None = None,
    **config_overrides: Any,
) -> SwinBackbone:
    """Builds the backbone of that name for dense tasks: `forward(images)` gives a list of (B, C_i, H_i, W_i) maps.

    As in the official detection and segmentation code, a window that covers a whole map keeps its size and shift
    (`single_window="keep"`). Arguments are those of `create_model`; `out_indices` are the stages whose maps it gives.
    """
    name, weights = _split_tag(name, weights)
    overrides = {"single_window": "keep", **config_overrides}
    config = find_variant(name).config.replace(in_channels=in_channels, **overrides)
    model = build_backbone(config, out_indices, name=name)
    if weights is not None:
        _load(model, open_checkpoint(weights, name=name, which=which))
    return model


def load_model(
    source: str | Path, num_classes: int | None = None, *, which: Which | None = None
) -> Model | ExportedModel:
    """The model that a checkpoint describes, with its weights, class names and preprocessing.

    Args:
        source: a file of ours; a folder as transformers' `save_pretrained` writes it; a URL or hub id of either;
            "name.tag" or a plain name of the catalogue; or a model in the package, such as "fashion". The path of an
            exported file, .onnx or .xml, gives an `ExportedModel`, which ONNX Runtime or OpenVINO runs.
        num_classes: None for its own; another number starts what depends on it afresh, without class names.
        which: of a training's checkpoint the "averaged" or the "raw" weights. None: the averaged.

    Raises:
        ValueError: there is no such thing, or it does not describe its model; the message says which.
    """
    if not is_exported(source):
        return checkpoint_model(source, num_classes, which=which)
    if num_classes is not None or which is not None:
        raise CheckpointError(f"{source} is an exported model, which stays as it is: leave num_classes and which out")
    file = ExportedFile(Path(source), torch.device("cpu"))
    described = _described(file.description, str(source))
    if isinstance(described.config, Mask2FormerConfig):
        return ExportedMask2Former(described, file)
    return (ExportedDetector if described.task == "detection" else ExportedModel)(described, file)


def checkpoint_model(source: str | Path, num_classes: int | None = None, *, which: Which | None = None) -> Model:
    """`load_model` of a checkpoint: its layers can be trained, converted and exchanged."""
    described, checkpoint = describe_source(source, which)
    if num_classes not in (None, described.num_classes):
        described = described.with_num_classes(num_classes)
    return _filled(described, checkpoint)


def describe_named(
    name: str, weights: str | Path | None, num_classes: int | None, *, which: Which | None = None, **overrides: Any
) -> tuple[ModelDescription, Checkpoint | None]:
    """The model of an official name, and the checkpoint that is to fill it. See `create_model`."""
    name, weights = _split_tag(name, weights)
    config: ModelConfig
    if name in VARIANTS:
        task: Task = "classification"
        config = find_variant(name).config.replace(**overrides)
    else:
        variant = find_other_variant(name)
        config = variant.config.replace(**overrides)
        task = task_of(config)
        if weights == "default" and isinstance(variant, MaskedVariant) and variant.weights is not None:
            weights = variant.weights
        if weights == "default" and not records(name):
            start = find_record(variant.backbone).full_name
            raise CatalogError(
                f"no public weights are known for {name!r}; to train it, start from a classifier's: weights={start!r}"
            )
    checkpoint = open_checkpoint(weights, name=name, which=which) if weights is not None else None
    # A dense model may start from a classifier's file, whose classes are not its own; one of masked pre-training is, to
    # a classifier, one without a head.
    alike = (task, "pretraining") if task == "classification" else (task,)
    own = checkpoint if checkpoint is not None and any(each in alike for each in checkpoint.tasks) else None
    if own is not None and num_classes is None and (own.num_classes or task == "classification"):
        num_classes = own.num_classes
    if isinstance(config, DenseConfig) and num_classes is not None:
        config = config.replace(num_classes=num_classes)
    if isinstance(config, Mask2FormerConfig) and own is not None and "things" not in overrides:
        config = _with_things(config, own)
    if isinstance(config, Mask2FormerConfig) and own is not None and "policy" not in overrides:
        config = _with_policy(config, own, overrides)
    described = ModelDescription(
        config=config,
        num_classes=cast(int, num_classes),  # None: the description's default
        multi_label=own is not None and (own.metadata or {}).get("multi_label", False),
        preprocessing=_preprocessing(own, name, task, config),
        name=name,
    )
    if own is None:
        return described, checkpoint
    classes = own.classes if own.num_classes == described.num_classes else None
    if classes is None and task == "classification" and own.metadata is None and num_classes == 1000:
        # Another project's file with a head of 1000 classes, or of 22K that is mapped to them, is ImageNet's.
        classes = class_names("imagenet1k") if own.num_classes in (1000, 21841) else None
    palette = own.palette if task in PAINTED and own.num_classes == described.num_classes else None
    return dataclasses.replace(described, classes=classes, palette=palette), checkpoint


def describe_source(source: str | Path, which: Which | None = None) -> tuple[ModelDescription, Checkpoint]:
    """The model that a checkpoint is of, and the checkpoint. See `load_model`."""
    text = str(source)
    if text.partition(".")[0] in (*VARIANTS, *OTHER_VARIANTS) and not Path(source).exists():
        described, checkpoint = describe_named(text, None if "." in text else "default", None, which=which)
        assert checkpoint is not None, "it has weights"
        return described, checkpoint
    checkpoint = open_checkpoint(source, which=which)
    return _description_of(checkpoint), checkpoint


def _description_of(checkpoint: Checkpoint) -> ModelDescription:
    """The model that a checkpoint of ours describes, checked against what the file holds.

    Raises:
        CheckpointError: it describes none, one that cannot be built, or another than the one whose weights it has.
    """
    source, metadata = checkpoint.source, checkpoint.metadata
    if metadata is None:
        example = {
            "classification": "swin_tiny_patch4_window7_224",
            "detection": "mask_rcnn_swin_tiny_patch4_window7",
            "segmentation": "upernet_swin_tiny_patch4_window7_512x512",
            "panoptic": "mask2former_swin_tiny_patch4_window7_panoptic",
            "pretraining": "simmim_swin_base_patch4_window6_192",
        }[checkpoint.task]
        raise CheckpointError(
            f"{source} does not say which model it is for: give its name too, "
            f"create_model({example!r}, weights={source!r}), or --model on the command line; "
            "`swin models` lists the names"
        )
    description = _described(metadata, source, held=checkpoint.task)
    check_size(checkpoint, description.config, lambda: build(description))
    return description


def _described(metadata: Mapping[str, Any], source: str, held: str | None = None) -> ModelDescription:
    """What a file says of its model; `held` is the task that its weights are for, where they tell."""
    if metadata["task"] not in TASKS:
        raise CheckpointError(f"{source} is for task={metadata['task']!r}; this version has: {', '.join(TASKS)}")
    if held not in (None, metadata["task"]):
        raise CheckpointError(
            f"{source} describes a model for {metadata['task']} and holds one for {held}: save it again"
        )
    try:
        return ModelDescription.from_dict(metadata)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source} describes a model that cannot be built: {error}") from error


def _filled(description: ModelDescription, checkpoint: Checkpoint | None) -> Model:
    model = build(description)
    if checkpoint is not None:
        _load(model, checkpoint)
    return model


def _load(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Loads and logs what that did: as a warning where a parameter is not the checkpoint's own."""
    report = load_weights(model, checkpoint)
    changed = report.resized or report.sliced or report.adapted or report.fresh
    _log.log(logging.WARNING if changed else logging.INFO, "%s", report)


def _split_tag(name: str, weights: str | Path | None) -> tuple[str, str | Path | None]:
    """A name with its tag, "name.tag", as the two; the tag stands for the weights."""
    name, dot, tag = name.partition(".")
    if dot and weights is not None:
        raise ValueError(f"name {name}.{tag!s} and weights={str(weights)!r} both say which weights; give one of them")
    if dot:
        find_record(name, tag)
    return name, tag if dot else weights


def _preprocessing(
    checkpoint: Checkpoint | None, name: str, task: Task, config: ModelConfig
) -> Preprocessing | DensePreprocessing | None:
    """The checkpoint's own, else that of the official models, for the config's channels where they are known."""
    official: dict[Task, Callable[[], Preprocessing | DensePreprocessing]] = {
        "classification": lambda: Preprocessing.imagenet(find_variant(name).image_size),
        "detection": lambda: as_official(DensePreprocessing.coco(), config),
        "segmentation": lambda: as_official(DensePreprocessing.ade20k(), config),
        "panoptic": lambda: as_official(DensePreprocessing.coco(), config),
        "pretraining": lambda: _masked_preprocessing(name),
    }
    known = checkpoint.preprocessing if checkpoint is not None else None
    if task == "classification" and checkpoint is not None and checkpoint.task == "pretraining" and known is not None:
        # Fine-tuning has other images than masked pre-training, of the same kind.
        own = known
        known = dataclasses.replace(official[task](), mean=own.mean, std=own.std, white_level=own.white_level)
    if isinstance(config, Mask2FormerConfig) and checkpoint is not None and _is_squeezed(checkpoint):
        known = known if config.policy == "transformers" else None  # the authors' images keep their shape
    if known is None or isinstance(known, DensePreprocessing) != isinstance(config, DenseConfig):
        known = official[task]()
    in_channels = config.in_channels if isinstance(config, SwinConfig) else config.backbone.in_channels
    if in_channels == known.channels:
        return known
    if in_channels != 1:
        return None
    # Grey images take the mean over the colours; of other channels nothing is known.
    mean, std = sum(known.mean) / known.channels, sum(known.std) / known.channels
    return dataclasses.replace(known, mean=(mean,), std=(std,))


def as_official(preprocessing: DensePreprocessing, config: ModelConfig | None) -> DensePreprocessing:
    """A task's preprocessing for a model: a Mask2Former's images are resized by Pillow, and padded whatever it answers.

    Args:
        preprocessing: that of the task's other models.
        config: the model's; None where it is not known.
    """
    is_another = isinstance(config, Mask2FormerConfig)
    return dataclasses.replace(preprocessing, antialias=True, size_divisor=32) if is_another else preprocessing


def _with_things(config: Mask2FormerConfig, checkpoint: Checkpoint) -> Mask2FormerConfig:
    """With the classes of things that a checkpoint of as many classes has, where it or the catalogue tells them."""
    if config.answers != "panoptic" or checkpoint.num_classes != config.num_classes:
        return config
    described = (checkpoint.metadata or {}).get("config", {})
    return config.replace(things=described.get("things", checkpoint.things))


def _with_policy(config: Mask2FormerConfig, checkpoint: Checkpoint, overrides: Mapping[str, Any]) -> Mask2FormerConfig:
    """With the rules that a checkpoint's figures come with: its own, or transformers' where that squeezes images."""
    if not _is_squeezed(checkpoint):
        return config
    if checkpoint.metadata is None:
        _log.warning(
            "%s: images are squeezed to %d x %d pixels and answers made by transformers' rules, as its "
            "preprocessor_config.json says; policy='authors' has the authors' rules and images",
            checkpoint.source,
            *checkpoint.preprocessing.scale,  # type: ignore[union-attr, misc]
        )
    saved = (checkpoint.metadata or {}).get("config", {})
    least = overrides.get("segment_threshold", saved.get("segment_threshold", LEAST_PROBABILITY["transformers"]))
    return config.replace(policy="transformers", segment_threshold=least)


def _is_squeezed(checkpoint: Checkpoint) -> bool:
    """Whether its figures are of images squeezed to a square and of transformers' rules."""
    known, saved = checkpoint.preprocessing, checkpoint.metadata
    by_theirs = saved is None or saved["config"].get("policy") == "transformers"
    return isinstance(known, DensePreprocessing) and known.squeeze and by_theirs


def _masked_preprocessing(name: str) -> Preprocessing:
    """The official images of masked pre-training are resized bilinearly, those of all else bicubically."""
    variant = find_other_variant(name)
    assert isinstance(variant, MaskedVariant), "its task says so"
    return Preprocessing.imagenet(variant.image_size, interpolation="bilinear")
