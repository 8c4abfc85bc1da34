"""What a Mask2Former is made of, and the published ones by their names. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from ..backbone.config import VARIANTS, SwinConfig
from ..checks import is_count, is_number, is_rate
from .base_config import Task, WithBackbone, check, check_count

Answers = Literal["panoptic", "instance", "semantic"]
Policy = Literal["authors", "transformers"]
"""Whose rules make answers of queries; see `panoptic_inference`."""

LEAST_PROBABILITY: dict[Policy, float] = {"authors": 0.8, "transformers": 0.5}
"""Of a panoptic segment's class, where nothing else is said."""

_TASKS: dict[Answers, Task] = {"panoptic": "panoptic", "instance": "detection", "semantic": "segmentation"}
_COCO_THINGS = tuple(range(80))  # of its 133 classes


@dataclass(frozen=True, kw_only=True)
class Mask2FormerConfig(WithBackbone):
    """The architecture of a Mask2Former (arXiv 2112.01527), and what it answers.

    Attributes:
        backbone: the Swin backbone; its window and shift never change with the map (`single_window="keep"`).
        answers: "panoptic" (each pixel's segment), "instance" (objects with masks, so that the model is one for
            detection) or "semantic" (each pixel's class, so that it is one for segmentation).
        num_classes: K, of things and stuff; none is not one of them.
        things: indices of the classes whose segments are objects, each by itself; None: all. Of a panoptic model only.
            Where `num_classes` changes and nothing is said of them, all are.
        num_queries: most segments of an image; the published large models have 200, but for semantic ones.
        dim: channels of queries, of the pixel decoder and of mask features; a multiple of 32.
        attention_heads: of every attention but the backbone's, which divide it.
        encoder_dim: hidden channels of the pixel decoder's layers.
        encoder_layers: of the pixel decoder.
        feedforward_dim: hidden channels of the decoder's layers.
        decoder_layers: of the decoder.
        segment_threshold: a panoptic segment's class has more than this probability (Mapillary Vistas: 0).
        overlap_threshold: least part of a segment's own mask that other segments leave it.
        max_detections: most objects in an image.
        policy: "authors", or "transformers" where figures are of images squeezed to a square and of the answers that
            release 5 of that library makes of them; see `panoptic_inference`.
        loss_points: points of a mask that its losses look at.
        class_weight: weight of the loss of classes.
        mask_weight: weight of the binary cross-entropy of masks.
        dice_weight: weight of the dice loss of masks.
        none_weight: weight of queries without a segment in the loss of classes.
    """

    backbone: SwinConfig = SwinConfig(single_window="keep", drop_path_rate=0.3)
    answers: Answers = "panoptic"
    num_classes: int = 133
    things: tuple[int, ...] | None = None
    num_queries: int = 100
    dim: int = 256
    attention_heads: int = 8
    encoder_dim: int = 1024
    encoder_layers: int = 6
    feedforward_dim: int = 2048
    decoder_layers: int = 9
    segment_threshold: float = 0.8
    overlap_threshold: float = 0.8
    max_detections: int = 100
    policy: Policy = "authors"
    loss_points: int = 12544
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    none_weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.answers in get_args(Answers), "answers", self.answers, f"use one of {', '.join(get_args(Answers))}")
        check(self.policy in get_args(Policy), "policy", self.policy, f"use one of {', '.join(get_args(Policy))}")
        counts = (
            "num_classes",
            "num_queries",
            "dim",
            "attention_heads",
            "encoder_dim",
            "feedforward_dim",
            "max_detections",
        )
        for name in (*counts, "loss_points"):
            check_count(name, getattr(self, name), 1)
        for name in ("encoder_layers", "decoder_layers"):
            check(is_count(getattr(self, name), 1, 100), name, getattr(self, name), "use a whole number from 1 to 100")
        check(self.dim % 32 == 0, "dim", self.dim, "use a multiple of 32, the groups of its norms")
        check(
            self.dim % self.attention_heads == 0,
            "attention_heads",
            self.attention_heads,
            f"use a divisor of dim={self.dim}",
        )
        for name in ("segment_threshold", "overlap_threshold"):
            check(is_rate(getattr(self, name)), name, getattr(self, name), "use a number in [0, 1]")
        for name in ("class_weight", "mask_weight", "dice_weight"):
            value = getattr(self, name)
            check(is_number(value) and value >= 0, name, value, "use at least 0")
        ok = is_number(self.none_weight) and self.none_weight > 0
        check(ok, "none_weight", self.none_weight, "use a number above 0: images without targets have no other loss")
        self._check_things()
        stages = len(self.backbone.depths)
        check(stages >= 2, "backbone", self.backbone, "the pixel decoder needs a backbone of two stages or more")

    def _check_things(self) -> None:
        things = self.things
        if things is None:
            return
        fix = f"give the indices of classes, 0 to {self.num_classes - 1}, each once, or null for all"
        ok = isinstance(things, list | tuple) and all(is_count(one, 0, self.num_classes - 1) for one in things)
        check(ok and len(set(things)) == len(things), "things", things, fix)
        check(self.answers == "panoptic", "things", things, f"leave it out of a model with answers={self.answers!r}")
        object.__setattr__(self, "things", tuple(sorted(things)))

    @property
    def task(self) -> Task:
        """What a model of it is for."""
        return _TASKS[self.answers]

    @property
    def thing_classes(self) -> tuple[int, ...]:
        """The indices of the classes of things."""
        return tuple(range(self.num_classes)) if self.things is None else self.things

    def replace(self, **overrides: Any) -> Self:
        """See `WithBackbone`. Other classes, or other answers, have no `things` but those given with them."""
        others = {"num_classes": self.num_classes, "answers": self.answers}
        if any(name in overrides and overrides[name] != value for name, value in others.items()):
            overrides = {"things": None, **overrides}
        return super().replace(**overrides)


def refuse_mask2former(config: object, what: str, error: type[ValueError] = ValueError) -> None:
    """Says so where something cannot be done with a Mask2Former.

    Args:
        config: a model's, of any kind.
        what: what cannot be done with it, as the middle of a sentence, "cannot be exported".
        error: what to raise.
    """
    if isinstance(config, Mask2FormerConfig):
        raise error(f"a Mask2Former {what} in this version: export it as .onnx, .xml or .pt2 in float32")


def _variants() -> dict[str, tuple[Mask2FormerConfig, str]]:
    """Each config, with COCO's classes (ADE20K's for semantic answers), and the classifier that can start it."""
    backbones = {
        "swin_tiny_patch4_window7": "swin_tiny_patch4_window7_224",
        "swin_small_patch4_window7": "swin_small_patch4_window7_224",
        "swin_base_patch4_window12": "swin_base_patch4_window12_384",
        "swin_large_patch4_window12": "swin_large_patch4_window12_384",
        **{
            f"swinv2_{size}_patch4_window{window}": f"swinv2_{size}_patch4_window{window}_256"
            for size in ("tiny", "small", "base")
            for window in (8, 16)
        },
    }
    classes: dict[Answers, dict[str, Any]] = {
        "panoptic": {"num_classes": 133, "things": _COCO_THINGS},
        "instance": {"num_classes": 80},
        "semantic": {"num_classes": 150},
    }
    table = {}
    for answers, fields in classes.items():
        for short, variant in backbones.items():
            backbone = VARIANTS[variant].config.replace(single_window="keep", drop_path_rate=0.3)
            queries = 200 if "large" in short and answers != "semantic" else 100
            config = Mask2FormerConfig(backbone=backbone, answers=answers, num_queries=queries, **fields)
            table[f"mask2former_{short}_{answers}"] = (config, variant)
    return table


MASK2FORMER_VARIANTS: dict[str, tuple[Mask2FormerConfig, str]] = _variants()
