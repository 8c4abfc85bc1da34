"""What detectors, segmenters and models of masked pre-training are made of, and the published ones by their names.

Imports no torch, so that the command line can list and check models at once.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from ..backbone.config import VARIANTS, ConfigError, SingleWindow, SwinConfig
from ..checks import is_count, is_rate, shown
from ..names import did_you_mean
from ..sizes import Size
from .base_config import Task, WithBackbone, check, check_count
from .mask2former_config import MASK2FORMER_VARIANTS, Mask2FormerConfig

Method = Literal["mask_rcnn", "cascade_mask_rcnn", "htc"]

FINE_TUNE_FIRST = (
    "it was pre-trained to foretell hidden pixels; fine-tune a model from its file: `swin train finetune --data.root "
    "LABELLED --model.name null --model.weights FILE`"
)
"""What to do with a model of masked pre-training that is asked for answers."""

PARAMETER_COUNTS = Path(__file__).with_name("parameter_counts.json")


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(WithBackbone):
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
        check(self.method in get_args(Method), "method", self.method, f"use one of {', '.join(get_args(Method))}")
        for name in ("num_classes", "fpn_dim", "fc_dim", "num_semantic_classes", "max_detections"):
            check_count(name, getattr(self, name), 1)
        check_count("rpn_samples", self.rpn_samples, 2)
        check_count("roi_samples", self.roi_samples, 4)
        for name in ("global_attention", "soft_nms"):
            check(isinstance(getattr(self, name), bool), name, getattr(self, name), "use True or False")
        if self.score_threshold is None:
            object.__setattr__(self, "score_threshold", 0.001 if self.method == "htc" else 0.05)
        for name in ("score_threshold", "nms_threshold"):
            check(is_rate(getattr(self, name)), name, getattr(self, name), "use a number in [0, 1]")
        stages = len(self.backbone.depths)
        check(stages >= 2, "backbone", self.backbone, "a feature pyramid needs a backbone of two stages or more")
        patch = self.backbone.patch_size
        check(patch[0] == patch[1], "patch_size", patch, "anchors need square patches")


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(WithBackbone):
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
            check_count(name, getattr(self, name), 1)
        scales = self.pool_scales
        fix = "give whole numbers from 1 to 1,024, at most 64 of them"
        check(isinstance(scales, list | tuple) and 0 < len(scales) <= 64, "pool_scales", scales, fix)
        object.__setattr__(self, "pool_scales", tuple(scales))
        for scale in scales:
            check(is_count(scale, 1, 1024), "pool_scales", scales, fix)
        stages = len(self.backbone.depths)
        check(stages >= 2, "backbone", self.backbone, "the decode head needs a backbone of two stages or more")
        index = self.auxiliary_index
        check(isinstance(index, int) and 0 <= index < stages, "auxiliary_index", index, f"use 0 to {stages - 1}")
        weight = self.auxiliary_weight
        check(isinstance(weight, int | float) and weight >= 0, "auxiliary_weight", weight, "use at least 0")
        check(is_rate(self.dropout) and self.dropout < 1, "dropout", self.dropout, "use a rate in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class MaskedConfig(WithBackbone):
    """The architecture of a model of masked pre-training (SimMIM, arXiv 2111.09886), and what it is asked.

    The latter is a part of it because without it the numbers that the decoder gives mean nothing.

    Attributes:
        backbone: the Swin backbone, whose windows change with the map as a classifier's do.
        mask_unit: pixels of a side of the squares that are hidden or shown whole; a multiple of the patch's sides.
        mask_ratio: the share of them that is hidden, rounded up to whole squares.
        target_window: what is to be foretold of the hidden pixels. None: the image (V1's recipes). An odd number: each
            pixel less the mean of its surroundings of so many pixels a side, over their deviation (V2's recipes: 47).
    """

    usual_windows: ClassVar[SingleWindow] = "unshift"

    backbone: SwinConfig = field(default=SwinConfig(drop_path_rate=0.0))
    mask_unit: int = 32
    mask_ratio: float = 0.6
    target_window: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        patch, unit, window = self.backbone.patch_size, self.mask_unit, self.target_window
        ok = is_count(unit, 1, 65535) and not any(unit % side for side in patch)
        check(ok, "mask_unit", unit, f"use a multiple of the patch's sides, {patch[0]} x {patch[1]} pixels")
        ok = is_rate(self.mask_ratio) and 0 < self.mask_ratio < 1
        check(ok, "mask_ratio", self.mask_ratio, "use a number above 0 and below 1")
        ok = window is None or (is_count(window, 3, 65535) and window % 2 == 1)
        check(ok, "target_window", window, "use an odd number of at least 3 pixels, or null for the image itself")

    @property
    def num_classes(self) -> int:
        """None: nothing is told apart."""
        return 0

    @property
    def foretold(self) -> str:
        """The target in words."""
        window = self.target_window
        return "the pixels" if window is None else f"the pixels, normalised in windows of {window} x {window}"

    def mask_layout(self, image_size: Size) -> tuple[Size, Size]:
        """Rows and columns of squares in an image of (height, width) pixels, and of patches in a square.

        Raises:
            ConfigError: they do not fill it.
        """
        height, width = image_size
        if height % self.mask_unit or width % self.mask_unit:
            raise ConfigError(
                f"images of {height} x {width} pixels are not whole squares of mask_unit={self.mask_unit}; use sides "
                f"that are multiples of it, or another mask_unit"
            )
        down, right = self.backbone.patch_size
        squares = (height // self.mask_unit, width // self.mask_unit)
        return squares, (self.mask_unit // down, self.mask_unit // right)


DenseConfig = DetectorConfig | SegmenterConfig | Mask2FormerConfig
ModelConfig = SwinConfig | DenseConfig | MaskedConfig

TASKS: tuple[Task, ...] = get_args(Task)
CONFIGS: dict[Task, type[ModelConfig]] = {
    "classification": SwinConfig,
    "detection": DetectorConfig,
    "segmentation": SegmenterConfig,
    "panoptic": Mask2FormerConfig,
    "pretraining": MaskedConfig,
}
"""A task's usual kind of model. `Mask2FormerConfig` is also one of those for detection and segmentation."""


def task_of(config: ModelConfig) -> Task:
    """What a model of that config is for."""
    if isinstance(config, Mask2FormerConfig):
        return config.task
    return next(task for task, kind in CONFIGS.items() if type(config) is kind)


def config_from_dict(task: Task, values: Mapping[str, Any]) -> ModelConfig:
    """Reads what a config's `to_dict` wrote; a field that is not there has its default.

    Raises:
        ConfigError: it cannot be built, or is of another task.
    """
    kind = Mask2FormerConfig if "answers" in values else CONFIGS[task]
    config: ModelConfig = kind.from_dict(dict(values))
    if task_of(config) != task:
        raise ConfigError(f"a {kind.__name__} with answers={values['answers']!r} is for {task_of(config)}, not {task}")
    return config


@dataclass(frozen=True, kw_only=True)
class DenseVariant:
    """A named detector, segmenter or mask transformer.

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
        return task_of(self.config)


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
    for name, (mask2former, variant) in MASK2FORMER_VARIANTS.items():
        table[name] = DenseVariant(config=mask2former, backbone=variant, published=mask2former.backbone.version == 1)
    return table


DENSE_VARIANTS: dict[str, DenseVariant] = _dense_variants()


@dataclass(frozen=True, kw_only=True)
class MaskedVariant:
    """A named model of masked pre-training.

    Attributes:
        config: its architecture, and what it is asked.
        backbone: the classification variant that has the same backbone, or another size's window.
        image_size: the image side, in pixels, that it is trained for.
        weights: the catalogue's name of its published weights, or None.
    """

    config: MaskedConfig
    backbone: str
    image_size: int = 192
    weights: str | None = None

    @property
    def task(self) -> Task:
        return "pretraining"


def _masked_variants() -> dict[str, MaskedVariant]:
    """Stochastic depth is that of the official recipe: none for V1, 0.1 for V2."""

    def of(backbone: str, weights: str | None = None, window: int | None = None, **fields: Any) -> MaskedVariant:
        config = VARIANTS[backbone].config.replace(**fields)
        masked = MaskedConfig(backbone=config, target_window=window)
        return MaskedVariant(config=masked, backbone=backbone, weights=weights and f"{backbone}.{weights}")

    v2: dict[str, Any] = {"weights": "simmim_1k_500k", "window": 47, "drop_path_rate": 0.1}
    return {
        "simmim_swin_base_patch4_window6_192": of("swin_base_patch4_window6_192", "simmim_1k_800ep_transformers"),
        "simmim_swin_large_patch4_window12_192": of("swin_large_patch4_window12_384", drop_path_rate=0.0),
        "simmim_swinv2_base_patch4_window12_192": of("swinv2_base_patch4_window12_192", **v2),
        "simmim_swinv2_large_patch4_window12_192": of("swinv2_large_patch4_window12_192", **v2),
    }


MASKED_VARIANTS: dict[str, MaskedVariant] = _masked_variants()
OTHER_VARIANTS: dict[str, DenseVariant | MaskedVariant] = {**DENSE_VARIANTS, **MASKED_VARIANTS}
"""All that are no classifiers."""


def model_names(task: str | None = None) -> list[str]:
    """The official names of all models, or of those for one task.

    Raises:
        ValueError: there is no such task.
    """
    if task is not None and task not in get_args(Task):
        raise ValueError(f"task={task!r} is not known: use one of {', '.join(get_args(Task))}, or None for all")
    classifiers = list(VARIANTS) if task in (None, "classification") else []
    return classifiers + [name for name, variant in OTHER_VARIANTS.items() if task in (None, variant.task)]


@functools.cache
def parameter_counts() -> dict[str, int]:
    """Parameters of every named model, with the classes it was published for; `tools/count_parameters.py` counts them.

    Batch norms' statistics are none, the auxiliary head's are some.
    """
    counts: dict[str, int] = json.loads(PARAMETER_COUNTS.read_text(encoding="utf-8"))
    return counts


def find_other_variant(name: str) -> DenseVariant | MaskedVariant:
    """The model of that name, which is no classifier; a `ConfigError` that suggests near ones where there is none."""
    if name in OTHER_VARIANTS:
        return OTHER_VARIANTS[name]
    raise ConfigError(
        f"there is no model named {shown(name)}; {did_you_mean(name, model_names())}`swin models` lists them all"
    )
