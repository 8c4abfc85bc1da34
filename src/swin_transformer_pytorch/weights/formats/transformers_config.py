"""`config.json` and `preprocessor_config.json` of transformers' classifiers and masked-image models, read and written;
of its Mask2Former what is done to images, read.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ...backbone.config import SwinConfig
from ...checks import as_pair
from ..preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DensePreprocessing,
    Interpolation,
    Preprocessing,
    PreprocessingError,
)
from .format import FormatError

MULTI_LABEL = "multi_label_classification"
"""A configuration's `problem_type` where an image may have any number of the classes."""

_MODELS: dict[str, Literal[1, 2]] = {"swin": 1, "swinv2": 2}  # model_type -> version
_NAMES = {  # ours -> theirs
    "in_channels": "num_channels",
    "patch_size": "patch_size",
    "embed_dim": "embed_dim",
    "depths": "depths",
    "num_heads": "num_heads",
    "window_size": "window_size",
    "mlp_ratio": "mlp_ratio",
    "qkv_bias": "qkv_bias",
    "drop_path_rate": "drop_path_rate",
}
_DEFAULTS = {"image_size": 224, "pretrained_window_sizes": (0, 0, 0, 0)}
# What Swin's models here never have otherwise.
_FIXED = {"use_absolute_embeddings": False, "hidden_act": "gelu", "layer_norm_eps": 1e-5}
_RESAMPLE: dict[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # PIL's numbers
_CROPPED, _SQUEEZED = "CLIPImageProcessor", "ViTImageProcessor"  # both in every version of theirs


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether it is the configuration of a Swin V1 or V2, and not of one inside another model."""
    return config.get("model_type") in _MODELS


def is_mask2former(config: Mapping[str, Any]) -> bool:
    """Whether it is the configuration of a Mask2Former, on any backbone."""
    return config.get("model_type") == "mask2former"


def labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The class names in a configuration; None where it has none but "LABEL_0" and the like."""
    named = config.get("id2label")
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named.values()):
        return None
    names = tuple(named.get(str(index), "") for index in range(len(named)))
    return None if not all(names) or names == _numbered(len(names)) else names


def read_config(config: Mapping[str, Any]) -> SwinConfig:
    """The architecture that a configuration describes.

    Raises:
        FormatError: it has what no Swin here has.
        ConfigError: its numbers are not possible.
    """
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise FormatError(f"{name}={config[name]!r} is not a part of Swin here, where it is {value!r}")
    values = {**_DEFAULTS, **config}
    known = {ours: values[theirs] for ours, theirs in _NAMES.items() if theirs in values}
    result = SwinConfig(version=_MODELS[config["model_type"]], **known)
    if result.version == 1:
        return result
    # Where none is told, the bias is relative to the window that a stage has at the configured image size.
    (height, _), trained = as_pair(values["image_size"]), values["pretrained_window_sizes"]
    own = [min(result.window_size[0], height // stride) for stride, _ in result.stage_strides]
    return result.replace(pretrained_window_sizes=tuple(map(lambda told, size: told or size, trained, own)))


def write_config(
    config: SwinConfig,
    num_classes: int,
    classes: tuple[str, ...] | None,
    preprocessing: Preprocessing | None,
    *,
    multi_label: bool = False,
    masked: bool = False,
) -> dict[str, Any]:
    """`read_config` undone, for `AutoModelForImageClassification`, or with `masked` `AutoModelForMaskedImageModeling`.

    Raises:
        FormatError: transformers' Swin cannot be such a model.
    """
    if masked and config.single_window != "unshift":
        raise FormatError(f"the model has single_window={config.single_window!r}, which transformers' never have")
    if not masked and (not num_classes or config.single_window != "unshift"):
        what = f"single_window={config.single_window!r}" if num_classes else "no head (num_classes=0)"
        raise FormatError(f"the model has {what}, which classifiers of transformers never have: write a file instead")
    stride = config.stage_strides[-1]
    covered = (stride[0] * config.window_size[0], stride[1] * config.window_size[1])
    image_size = preprocessing.image_size if preprocessing is not None else covered
    square = {"window_size": config.window_size, "patch_size": config.patch_size}
    if config.version == 2:
        square["image_size"] = image_size
    for name, (height, width) in square.items():
        if height != width:
            raise FormatError(f"{name}={height}x{width} is none of transformers' Swin V{config.version}: write a file")
    if config.version == 1 and any(side < least for side, least in zip(image_size, covered, strict=True)):
        raise FormatError(
            f"image_size={image_size[0]}x{image_size[1]} is less than a window of the last stage covers, {covered[0]} "
            "pixels, and transformers' Swin V1 fails on such images: write a file instead"
        )
    if config.version == 2 and image_size[0] % stride[0]:
        raise FormatError(
            f"image_size={image_size[0]} is no multiple of {stride[0]}, for which alone transformers' Swin V2 chooses "
            "the windows that the official one has: write a file instead"
        )
    model_type, values = ("swin", "swinv2")[config.version - 1], config.to_dict()
    written: dict[str, Any] = {
        "architectures": [f"{model_type.capitalize()}For{'MaskedImageModeling' if masked else 'ImageClassification'}"],
        "model_type": model_type,
        "image_size": image_size[0] if image_size[0] == image_size[1] else list(image_size),
        **{theirs: values[ours] for ours, theirs in _NAMES.items()},
        "window_size": config.window_size[0],
        "patch_size": config.patch_size[0],
        **_FIXED,
    }
    if config.version == 2:
        written["pretrained_window_sizes"] = [size or config.window_size[0] for size in config.pretrained_window_sizes]
    if multi_label:
        written["problem_type"] = MULTI_LABEL
    if masked:
        return {**written, "encoder_stride": stride[0]}
    names = classes or _numbered(num_classes)
    return {**written, "id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def read_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """What a `preprocessor_config.json` does.

    Raises:
        PreprocessingError: it does what `Preprocessing` has no place for.
    """
    steps = {"do_resize": True, "do_rescale": True, "do_pad": False}
    for name, done in steps.items():
        if bool(values.get(name, done)) != done:
            raise PreprocessingError(f"{name}={values[name]!r} is not possible here")
    resample, factor = values.get("resample", 2), values.get("rescale_factor", 1 / 255)
    if resample not in _RESAMPLE or abs(factor * 255 - 1) > 1e-6:
        raise PreprocessingError(f"resample={resample!r}, rescale_factor={factor!r} is not possible here")
    size, crop = values.get("size", 224), values.get("crop_size") if values.get("do_center_crop") else None
    cropped = _sides(crop) if crop is not None else None
    if isinstance(size, Mapping) and "shortest_edge" in size:
        if cropped is None:
            raise PreprocessingError("the shorter side is resized and nothing is cropped, which is not possible here")
        resize_size: Any = size["shortest_edge"]
    else:
        resize_size = size if isinstance(size, int) and cropped is not None else _sides(size)
    normalised = values.get("do_normalize", True)
    return Preprocessing(
        image_size=cropped if cropped is not None else resize_size,
        resize_size=resize_size,
        interpolation=_RESAMPLE[resample],
        mean=values.get("image_mean", (0.5, 0.5, 0.5)) if normalised else (0.0, 0.0, 0.0),
        std=values.get("image_std", (0.5, 0.5, 0.5)) if normalised else (1.0, 1.0, 1.0),
    )


def read_mask_preprocessing(values: Mapping[str, Any]) -> DensePreprocessing:
    """What a Mask2Former's `preprocessor_config.json` does. Most on the hub squeeze images to 384 x 384.

    Raises:
        PreprocessingError: it does what `DensePreprocessing` has no place for.
    """
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if not values.get(name, True):
            raise PreprocessingError(f"{name}={values[name]!r} is not possible here")
    resample, factor = values.get("resample", 2), values.get("rescale_factor", 1 / 255)
    size, divisor = values.get("size", {"shortest_edge": 800, "longest_edge": 1333}), values.get("size_divisor", 32)
    known = isinstance(size, Mapping) and isinstance(factor, int | float)
    if not known or resample != 2 or abs(factor * 255 - 1) > 1e-6 or values.get("pad_size") is not None:
        raise PreprocessingError(
            f"size={size!r}, resample={resample!r}, rescale_factor={factor!r}, pad_size={values.get('pad_size')!r} is "
            "not possible here"
        )
    squeezed = "height" in size
    sides = ("height", "width") if squeezed else ("longest_edge", "shortest_edge")
    mean, std = values.get("image_mean", IMAGENET_MEAN), values.get("image_std", IMAGENET_STD)
    return DensePreprocessing(
        scale=tuple(size.get(side) for side in sides),  # type: ignore[arg-type]
        squeeze=squeezed,
        size_divisor=divisor or 1,
        antialias=True,
        mean=tuple(round(255 * value, 4) for value in mean),  # as usually written
        std=tuple(round(255 * value, 4) for value in std),
    )


def write_preprocessing(preprocessing: Preprocessing) -> dict[str, Any]:
    """`read_preprocessing` undone, for `AutoImageProcessor`."""
    height, width = preprocessing.image_size
    sides = {"height": height, "width": width}
    cropped = isinstance(preprocessing.resize_size, int)
    return {
        "image_processor_type": _CROPPED if cropped else _SQUEEZED,
        "do_resize": True,
        "size": {"shortest_edge": preprocessing.resize_size} if cropped else sides,
        "resample": next(number for number, name in _RESAMPLE.items() if name == preprocessing.interpolation),
        "do_center_crop": cropped,
        **({"crop_size": sides} if cropped else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "do_convert_rgb": preprocessing.channels == 3,
    }


def _sides(size: Any) -> Any:
    return (size.get("height"), size.get("width")) if isinstance(size, Mapping) else (size, size)


def _numbered(num_classes: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{index}" for index in range(num_classes))
