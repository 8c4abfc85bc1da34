"""From a name to a model, with or without weights."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from torch import nn

from ..backbone.config import VARIANTS, ConfigError, SwinConfig, find_variant
from ..weights.catalog import CatalogError, find_record, records
from ..weights.imagenet_classes import class_names
from ..weights.load import Checkpoint, CheckpointError, load_weights, open_checkpoint
from ..weights.preprocessing import DensePreprocessing, Preprocessing
from .backbone import SwinBackbone
from .classification import SwinClassifier
from .config import (
    DENSE_VARIANTS,
    DenseConfig,
    DenseVariant,
    DetectorConfig,
    SegmenterConfig,
    Task,
    find_dense_variant,
    model_names,
)
from .size import check_size

if TYPE_CHECKING:
    from .detection import Detector
    from .segmentation import Segmenter

    Model = SwinClassifier | Detector | Segmenter

AnyPreprocessing = TypeVar("AnyPreprocessing", Preprocessing, DensePreprocessing)

_log = logging.getLogger(__name__)

TASKS: tuple[Task, ...] = get_args(Task)
_PRETRAINED = Path(__file__).parents[1] / "weights" / "pretrained"
SHIPPED = {
    "fashion": _PRETRAINED / "swin_fashion.safetensors",
    "scenes_detection": _PRETRAINED / "mask_rcnn_scenes.safetensors",
    "scenes_segmentation": _PRETRAINED / "upernet_scenes.safetensors",
}
"""Weights that are inside the package, by the name that `load_model` and `swin predict --weights` take."""


def list_models(task: str | None = None) -> list[str]:
    """Names that `create_model` takes; `task` is "classification", "detection", "segmentation", or None for all.

    Raises:
        ValueError: there is no such task.
    """
    return sorted(model_names(task))


def create_model(
    name: str,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    in_channels: int = 3,
    **config_overrides: Any,
) -> Model:
    """Builds the model of an official name, such as "swin_tiny_patch4_window7_224".

    A name of `list_models("detection")` or `list_models("segmentation")` gives a `Detector` or a `Segmenter`, any other
    a `SwinClassifier`.

    Args:
        name: one of `list_models()`; "name.tag" is short for `weights=tag`.
        weights: None (random), "default", a catalogue tag such as "in22k", a path, a URL, or a hub id
            "owner/repository", in any known format. A detector or segmenter also takes a classifier's, such as
            "swin_tiny_patch4_window7_224.in1k", which fill its backbone.
        num_classes: None for as many as the weights have (without weights: 1000 of a classifier, COCO's 80 of a
            detector, ADE20K's 150 of a segmenter); another number starts what depends on it afresh. 0 leaves a
            classifier's head out, the model then gives pooled features.
        in_channels: channels of the images. The first convolution of the weights is adapted to them.
        config_overrides: fields of `SwinConfig`, such as `window_size=12` or `drop_path_rate=0.3`, and those of
            `DetectorConfig` or `SegmenterConfig`.

    Raises:
        ValueError: for an unknown name, tag or field, or a checkpoint that does not fit; the message says which.
    """
    name, weights = _split_tag(name, weights)
    if name not in VARIANTS:
        return _create_dense(name, find_dense_variant(name), weights, num_classes, in_channels, config_overrides)
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


def load_model(source: str | Path) -> Model:
    """The model that a checkpoint of ours describes, with its weights, class names and preprocessing.

    `source` is a path or URL of such a file, "name.tag" or a plain name of the catalogue, or "fashion" for the small
    Fashion-MNIST model that is in the package.
    """
    if str(source) in SHIPPED:
        source = SHIPPED[str(source)]
    elif str(source).partition(".")[0] in (*VARIANTS, *DENSE_VARIANTS) and not Path(source).exists():
        return create_model(str(source), weights=None if "." in str(source) else "default")
    checkpoint = open_checkpoint(source)
    if checkpoint.metadata is None or checkpoint.config is None:
        example = {
            "classification": "swin_tiny_patch4_window7_224",
            "detection": "mask_rcnn_swin_tiny_patch4_window7",
            "segmentation": "upernet_swin_tiny_patch4_window7_512x512",
        }[checkpoint.task]
        raise CheckpointError(
            f"{source} does not say which model it is for: give its name too, "
            f"create_model({example!r}, weights={str(source)!r}), or --model on the command line; "
            "`swin models` lists the names"
        )
    model = _described_model(checkpoint, checkpoint.config, checkpoint.metadata)
    _load(model, checkpoint)
    return model


def _described_model(checkpoint: Checkpoint, config: SwinConfig, metadata: dict[str, Any]) -> Model:
    """The model, with random weights, that the checkpoint's description is of."""
    task = metadata["task"]
    if task not in TASKS:
        raise CheckpointError(f"{checkpoint.source} is for task={task!r}; this version has: {', '.join(TASKS)}")
    if task != checkpoint.task:
        raise CheckpointError(
            f"{checkpoint.source} describes a model for {task} and holds one for {checkpoint.task}: save it again"
        )
    dense_config = _dense_config(checkpoint, task, metadata) if task != "classification" else None
    preprocessing = checkpoint.preprocessing

    def build() -> Model:
        if dense_config is not None:
            dense_preprocessing = preprocessing if isinstance(preprocessing, DensePreprocessing) else None
            return _build_dense(dense_config, checkpoint, dense_preprocessing, metadata["name"])
        return SwinClassifier(
            config,
            num_classes=metadata["num_classes"],
            classes=checkpoint.classes,
            preprocessing=preprocessing if isinstance(preprocessing, Preprocessing) else None,
            name=metadata["name"],
        )

    check_size(checkpoint, config if dense_config is None else dense_config, build)
    return build()


def _dense_config(checkpoint: Checkpoint, task: str, metadata: dict[str, Any]) -> DenseConfig:
    """That of the description, checked as far as possible without a model."""
    kind = DetectorConfig if task == "detection" else SegmenterConfig
    try:
        config = kind.from_dict(metadata["config"])
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.source} describes a model that cannot be built: {error}") from error
    if config.num_classes != metadata["num_classes"]:
        raise CheckpointError(
            f"{checkpoint.source} describes a model of num_classes={config.num_classes} and of "
            f"{metadata['num_classes']}: save it again"
        )
    return config


def _create_dense(
    name: str,
    variant: DenseVariant,
    weights: str | Path | None,
    num_classes: int | None,
    in_channels: int,
    overrides: dict[str, Any],
) -> Detector | Segmenter:
    config = variant.config.replace(in_channels=in_channels, **overrides)
    if weights == "default" and not records(name):
        start = find_record(variant.backbone).full_name
        raise CatalogError(
            f"no public weights are known for {name!r}; to train it, start from a classifier's: weights={start!r}"
        )
    checkpoint = open_checkpoint(weights, name=name) if weights is not None else None
    own = checkpoint if checkpoint is not None and checkpoint.task == variant.task else None
    if own is not None and num_classes is None and own.num_classes:
        num_classes = own.num_classes
    if num_classes is not None:
        config = config.replace(num_classes=num_classes)
    model = _build_dense(config, own, _dense_preprocessing(own, variant.task, in_channels), name)
    if checkpoint is not None:
        _load(model, checkpoint)
    return model


def _build_dense(
    config: DenseConfig, checkpoint: Checkpoint | None, preprocessing: DensePreprocessing | None, name: str | None
) -> Detector | Segmenter:
    """The model with random weights, and the checkpoint's names of its classes where it has as many."""
    named = checkpoint if checkpoint is not None and checkpoint.num_classes == config.num_classes else None
    classes = named.classes if named is not None else None
    # Imported here: detection brings torchvision's compiled operators, and a classifier needs neither.
    if isinstance(config, DetectorConfig):
        from .detection import build_detector

        return build_detector(config, classes=classes, preprocessing=preprocessing, name=name)
    from .segmentation import build_segmenter

    palette = named.palette if named is not None else None
    return build_segmenter(config, classes=classes, palette=palette, preprocessing=preprocessing, name=name)


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
    """The checkpoint's own, else ImageNet's for the variant."""
    known = checkpoint.preprocessing if checkpoint is not None else None
    if not isinstance(known, Preprocessing):
        known = Preprocessing.imagenet(find_variant(name).image_size)
    return _for_channels(known, in_channels)


def _dense_preprocessing(checkpoint: Checkpoint | None, task: Task, in_channels: int) -> DensePreprocessing | None:
    """The checkpoint's own, else that of the official models for the task."""
    known = checkpoint.preprocessing if checkpoint is not None else None
    if not isinstance(known, DensePreprocessing):
        known = DensePreprocessing.coco() if task == "detection" else DensePreprocessing.ade20k()
    return _for_channels(known, in_channels)


def _for_channels(known: AnyPreprocessing, in_channels: int) -> AnyPreprocessing | None:
    """Grey images take the mean over the colours; of other channels nothing is known."""
    if in_channels == known.channels:
        return known
    if in_channels != 1:
        return None
    mean, std = sum(known.mean) / known.channels, sum(known.std) / known.channels
    return dataclasses.replace(known, mean=(mean,), std=(std,))
