"""What a detector and a segmenter are made of, and the published ones by their names.

Imports no torch, so that the command line can list and check models at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from ..backbone.config import VARIANTS, ConfigError, SwinConfig
from ..checks import is_count, is_rate, require, shown
from ..names import did_you_mean

Method = Literal["mask_rcnn", "cascade_mask_rcnn", "htc"]
Task = Literal["classification", "detection", "segmentation"]

PARAMETER_COUNTS = Path(__file__).with_name("parameter_counts.json")
_DENSE_BACKBONE = SwinConfig(single_window="keep", drop_path_rate=0.2)


_require = functools.partial(require, error=ConfigError)


def _require_count(name: str, value: object, least: int) -> None:
    _require(is_count(value, least, 65535), name, value, f"use a whole number of at least {least}, at most 65,535")


@dataclass(frozen=True, kw_only=True)
class _DenseConfig:
    """What both have: a backbone, and overrides that may name its fields too."""

    backbone: SwinConfig = field(default=_DENSE_BACKBONE)

    def __post_init__(self) -> None:
        if isinstance(self.backbone, Mapping):
            known = {"single_window": "keep", **self.backbone}
            object.__setattr__(self, "backbone", SwinConfig.from_dict(known))
        _require(isinstance(self.backbone, SwinConfig), "backbone", self.backbone, "give the fields of a SwinConfig")

    def replace(self, **overrides: Any) -> Self:
        """A copy with other values. A name that is no field here is looked up among the backbone's.

        Raises:
            ConfigError: neither has such a field; the message lists both's.
        """
        own = {item.name for item in dataclasses.fields(self)}
        inner = {item.name for item in dataclasses.fields(SwinConfig)}
        for name in overrides:
            if name not in own | inner:
                near = difflib.get_close_matches(name, own | inner, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ConfigError(
                    f"unknown config field {name!r}{hint}; {type(self).__name__} has: {', '.join(sorted(own))}; its "
                    f"backbone: {', '.join(sorted(inner))}"
                )
        changed = dataclasses.replace(self, **{name: value for name, value in overrides.items() if name in own})
        for_backbone = {name: value for name, value in overrides.items() if name not in own}
        return dataclasses.replace(changed, backbone=changed.backbone.replace(**for_backbone))

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as they travel in a checkpoint; `from_dict` reads them back."""
        plain = {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }
        return {**plain, "backbone": self.backbone.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` wrote; a field that is not there has its default."""
        return cls().replace(**values)


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(_DenseConfig):
    """The architecture of a detector that gives boxes and masks.

    Attributes:
        method: "mask_rcnn", "cascade_mask_rcnn" (three stages of rising IoU) or "htc" (a cascade whose mask heads pass
            their features on, with a semantic branch).
        backbone: the Swin backbone; its window and shift never change with the map (`single_window="keep"`).
        num_classes: classes of things; the background is not one of them.
        fpn_dim: channels of the feature pyramid, and of the convolutions in the region proposal, box, mask and
            semantic heads.
        fc_dim: channels of the fully connected layers of the box heads.
        num_semantic_classes: HTC only: classes of its semantic branch (COCO stuff: 183).
        global_attention: one block of attention over the whole last map, as HTC++ has it; its design is ours, since
            none was published.
        soft_nms: whether overlapping detections decay (HTC++) rather than disappear.
        score_threshold: least score of a detection; None for the method's own: 0.05, HTC 0.001.
        nms_threshold: detections of one class that overlap more are one; with soft NMS, decay begins at it.
        max_detections: most detections in an image.
        rpn_samples: anchors of an image that the region proposal loss looks at, at most half of them positive.
        roi_samples: regions of an image that a box loss looks at, at most a quarter of them positive.
    """

    method: Method = "mask_rcnn"
    num_classes: int = 80
    fpn_dim: int = 256
    fc_dim: int = 1024
    num_semantic_classes: int = 183
    global_attention: bool = False
    soft_nms: bool = False
    score_threshold: float | None = None
    nms_threshold: float = 0.5
    max_detections: int = 100
    rpn_samples: int = 256
    roi_samples: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.method in get_args(Method), "method", self.method, f"use one of {', '.join(get_args(Method))}")
        for name in ("num_classes", "fpn_dim", "fc_dim", "num_semantic_classes", "max_detections"):
            _require_count(name, getattr(self, name), 1)
        _require_count("rpn_samples", self.rpn_samples, 2)
        _require_count("roi_samples", self.roi_samples, 4)
        for name in ("global_attention", "soft_nms"):
            _require(isinstance(getattr(self, name), bool), name, getattr(self, name), "use True or False")
        if self.score_threshold is None:
            object.__setattr__(self, "score_threshold", 0.001 if self.method == "htc" else 0.05)
        for name in ("score_threshold", "nms_threshold"):
            _require(is_rate(getattr(self, name)), name, getattr(self, name), "use a number in [0, 1]")
        stages = len(self.backbone.depths)
        _require(stages >= 2, "backbone", self.backbone, "a feature pyramid needs a backbone of two stages or more")
        patch = self.backbone.patch_size
        _require(patch[0] == patch[1], "patch_size", patch, "anchors need square patches")


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(_DenseConfig):
    """The architecture of UPerNet with an auxiliary head.

    Attributes:
        backbone: the Swin backbone; its window and shift never change with the map (`single_window="keep"`).
        num_classes: classes of pixels.
        decode_dim: channels of the decode head (official: 512).
        auxiliary_dim: channels of the auxiliary head (official: 256), which only training uses.
        auxiliary_index: the map that the auxiliary head looks at, counted from 0.
        auxiliary_weight: weight of its loss.
        pool_scales: sides of the pyramid pooling's grids.
        dropout: rate before each classifier.
    """

    num_classes: int = 150
    decode_dim: int = 512
    auxiliary_dim: int = 256
    auxiliary_index: int = 2
    auxiliary_weight: float = 0.4
    pool_scales: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_classes", "decode_dim", "auxiliary_dim"):
            _require_count(name, getattr(self, name), 1)
        scales = self.pool_scales
        fix = "give whole numbers from 1 to 1,024, at most 64 of them"
        _require(isinstance(scales, list | tuple) and 0 < len(scales) <= 64, "pool_scales", scales, fix)
        object.__setattr__(self, "pool_scales", tuple(scales))
        for scale in scales:
            _require(is_count(scale, 1, 1024), "pool_scales", scales, fix)
        stages = len(self.backbone.depths)
        _require(stages >= 2, "backbone", self.backbone, "the decode head needs a backbone of two stages or more")
        index = self.auxiliary_index
        _require(isinstance(index, int) and 0 <= index < stages, "auxiliary_index", index, f"use 0 to {stages - 1}")
        weight = self.auxiliary_weight
        _require(isinstance(weight, int | float) and weight >= 0, "auxiliary_weight", weight, "use at least 0")
        _require(is_rate(self.dropout) and self.dropout < 1, "dropout", self.dropout, "use a rate in [0, 1)")


DenseConfig = DetectorConfig | SegmenterConfig
ModelConfig = SwinConfig | DenseConfig

TASKS: tuple[Task, ...] = get_args(Task)
CONFIGS: dict[Task, type[ModelConfig]] = {
    "classification": SwinConfig,
    "detection": DetectorConfig,
    "segmentation": SegmenterConfig,
}


@dataclass(frozen=True, kw_only=True)
class DenseVariant:
    """A named detector or segmenter.

    Attributes:
        config: its architecture.
        backbone: the classification variant whose weights can start it.
        published: whether its authors published this combination, or it is one of ours (V2 backbones).
    """

    config: DenseConfig
    backbone: str
    published: bool

    @property
    def task(self) -> Task:
        return "detection" if isinstance(self.config, DetectorConfig) else "segmentation"


def _dense_variants() -> dict[str, DenseVariant]:
    """Stochastic depth is that of the official recipe: 3x for detectors, 160k iterations for segmenters."""
    table: dict[str, DenseVariant] = {}
    methods: dict[str, dict[str, Any]] = {
        "mask_rcnn": {"method": "mask_rcnn"},
        "cascade_mask_rcnn": {"method": "cascade_mask_rcnn"},
        "htc": {"method": "htc"},
        "htcpp": {"method": "htc", "global_attention": True, "soft_nms": True},
    }
    v1 = {
        "swin_tiny_patch4_window7": "swin_tiny_patch4_window7_224",
        "swin_small_patch4_window7": "swin_small_patch4_window7_224",
        "swin_base_patch4_window7": "swin_base_patch4_window7_224",
        "swin_large_patch4_window7": "swin_large_patch4_window7_224",
    }
    window12 = {
        "swin_base_patch4_window12": "swin_base_patch4_window12_384",
        "swin_large_patch4_window12": "swin_large_patch4_window12_384",
    }
    v2 = {
        f"swinv2_{size}_patch4_window{window}": f"swinv2_{size}_patch4_window{window}_256"
        for size in ("tiny", "small", "base")
        for window in (8, 16)
    }
    rates = {"tiny": 0.2, "small": 0.2, "base": 0.3, "large": 0.3}

    def dense_backbone(variant: str, rate: float) -> SwinConfig:
        return VARIANTS[variant].config.replace(single_window="keep", drop_path_rate=rate)

    for method, fields in methods.items():
        for short, variant in {**v1, **v2}.items():
            config = DetectorConfig(backbone=dense_backbone(variant, rates[short.split("_")[1]]), **fields)
            sizes = {"mask_rcnn": ("tiny", "small"), "cascade_mask_rcnn": ("tiny", "small", "base")}.get(method, ())
            published = short in v1 and short.split("_")[1] in sizes
            table[f"{method}_{short}"] = DenseVariant(config=config, backbone=variant, published=published)
    for short, variant in {**v1, **window12, **v2}.items():
        segmenter = SegmenterConfig(backbone=dense_backbone(variant, 0.3))
        name = f"upernet_{short}_512x512"
        table[name] = DenseVariant(config=segmenter, backbone=variant, published=short not in v2)
    return table


DENSE_VARIANTS: dict[str, DenseVariant] = _dense_variants()


def model_names(task: str | None = None) -> list[str]:
    """The official names of all models, or of those for one task.

    Raises:
        ValueError: there is no such task.
    """
    if task is not None and task not in get_args(Task):
        raise ValueError(f"task={task!r} is not known: use one of {', '.join(get_args(Task))}, or None for all")
    classifiers = list(VARIANTS) if task in (None, "classification") else []
    return classifiers + [name for name, variant in DENSE_VARIANTS.items() if task in (None, variant.task)]


@functools.cache
def parameter_counts() -> dict[str, int]:
    """Parameters of every named model, with the classes it was published for; `tools/count_parameters.py` counts them.

    Batch norms' statistics are none, the auxiliary head's are some.
    """
    counts: dict[str, int] = json.loads(PARAMETER_COUNTS.read_text(encoding="utf-8"))
    return counts


def find_dense_variant(name: str) -> DenseVariant:
    """The detector or segmenter of that name; a `ConfigError` that suggests near ones where there is none."""
    if name in DENSE_VARIANTS:
        return DENSE_VARIANTS[name]
    raise ConfigError(
        f"there is no model named {shown(name)}; {did_you_mean(name, model_names())}`swin models` lists them all"
    )
