"""The recipe of a classifier's training run, a tree of frozen dataclasses. Its defaults are the official ones.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ...data.classification.augmentation import Augmentation
from ...data.classification.source import ClassificationKind, ClassificationSource
from ...data.images.decoding import Decoding
from ...data.shards.options import ShardOptions
from ...models.config import Task
from .parts import (
    Auto,
    BaseRecipe,
    ModelRecipe,
    OptimizerRecipe,
    RecipeError,
    require,
    require_class_weights,
    require_counts,
    require_one_rate,
)


@dataclass(frozen=True, kw_only=True)
class ClassifierModelRecipe(ModelRecipe):
    """Which model is trained, and what it starts from.

    Attributes:
        name: an official name such as "swin_tiny_patch4_window7_224"; "name.tag" also says which weights. "fashion" is
            the model in the package, with its weights.
        config: instead of a name, the fields of `SwinConfig` for an architecture of your own. With neither, `weights`
            must be a checkpoint of ours, which says its architecture itself.
        weights: what the model starts from: a catalogue tag, a path, a URL or a hub id; null starts from random.
        init: how random weights are drawn: "official" with a deviation of 0.02; "fan_in" with that of 1 / sqrt(inputs),
            for narrow models, which learn much faster so: 0.02 is little where a layer has few inputs.
        num_classes: outputs of the head; null for as many as the data has.
        in_channels: channels of the images: 1 (grey), 3 (colour), or those of NPY files and TIFFs of bands. "auto" is
            that of such training images, else the model's. Colour changes are left out where it is neither 1 nor 3.
        config_overrides: fields of `SwinConfig` that differ from the named model's, such as `drop_path_rate: 0.1`.
    """

    in_channels: int | Auto = 3


_OF_KINDS = {"class_order": ("folder",), "classes": ("folder", "multi_label", "shards"), "labels": ("multi_label",)}


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Which images, how they are prepared and how they are batched.

    Attributes:
        kind: "folder" (`root` has train/ and val/, or one folder a class; with a file of labels instead it becomes
            "multi_label"), "multi_label" (any number of classes an image, by Roboflow's _classes.csv, labels.csv,
            labels.json or Label Studio's JSON in `root`), "shards" (what `swin shards` made, recognised too),
            "fashion_sample" (the 2,000 images in the package) or "fashion_mnist" (all 60,000, from the four files in
            `root`).
        root: the folder of images, for the kinds that have one; of shards also an address, such as s3://bucket/shards.
        labels: for "multi_label", the file of labels in `root`, where it is called otherwise.
        class_order: for "folder", the order of the class folders in the head: "natural" (2 before 10), "sorted" (10
            before 2), or a file of their names, one a line; null sorts them, and says so where that makes a difference.
        classes: for folders, the classes to keep, [rose, tulip], or {flower: [rose, tulip], tree: [oak]}, which
            makes one class of several; "*" in such a list is all others. null for all.
        image_size: side of the model's images in pixels, or (height, width); null for the model's own, else 224. "auto"
            is likewise, but else the shorter side of the usual training image, at most 224.
        resize_size: evaluation's resize: an int is the shorter side, of which the centre is then cut out; a pair is
            both sides, without a crop; null for the official rule (256 for 224).
        max_pixels: larger image files cannot be used; null for Pillow's limit, 179 million (2 x MAX_IMAGE_PIXELS).
        white_level: the value of white in image files of 16 bits, such as 4095 where 12 are used; null for 65535.
        decoding: "exact" decodes all pixels, as evaluation does by default; "scaled" decodes large JPEGs at a half, a
            quarter or an eighth of their sides, where the crop still has twice as many pixels along both as the model
            takes: faster, with slightly other numbers. Evaluate and predict with the same.
        batch_size: images of a step on one device; "auto" chooses by the number of training images, at most 32, and by
            the memory.
        num_workers: processes that read and change images; 0 reads in the training process.
        val_fraction: part of each class (of all images for "multi_label") held out where the folder has no val/.
        sampling: "all" shows each image once an epoch; "balanced" each class as often as any other, the images of rare
            ones several times with other random changes, in epochs of the same length.
        augmentation: the random changes.
        shards: for "shards", how they are shuffled, and kept where `root` is an address.
    """

    kind: ClassificationKind = "folder"
    root: str | None = None
    labels: str | None = None
    class_order: str | None = None
    classes: dict[str, list[str]] | list[str] | None = None
    image_size: int | tuple[int, int] | Auto | None = None
    resize_size: int | tuple[int, int] | None = None
    max_pixels: int | None = None
    white_level: int | None = None
    decoding: Decoding = "exact"
    batch_size: int | Auto = 128
    num_workers: int = 4
    val_fraction: float = 0.2
    sampling: Literal["all", "balanced"] = "all"
    augmentation: Augmentation = field(default_factory=Augmentation)
    shards: ShardOptions = field(default_factory=ShardOptions)

    def __post_init__(self) -> None:
        check_image_data(self)
        for name, kinds in _OF_KINDS.items():
            ok = getattr(self, name) is None or self.kind in kinds
            fix = f"null with data.kind={self.kind!r}: it is for {' and '.join(kinds)}"
            require(ok, f"data.{name}", getattr(self, name), fix)
        alone = self.kind != "multi_label" or self.sampling == "all"
        require(
            alone, "data.sampling", self.sampling, "all: images have several classes; loss.class_weights balances them"
        )
        alone = self.kind != "shards" or self.sampling == "all"
        fix = "all: balanced draws would need all shards at once; loss.class_weights=balanced makes up for rare classes"
        require(alone, "data.sampling", self.sampling, fix)

    def source(self, *, seed: int = 0) -> ClassificationSource:
        """Where the images are; a `RecipeError` where the recipe does not say."""
        check_root(self)
        return ClassificationSource(
            kind=self.kind,
            root=self.root,
            labels=self.labels,
            class_order=self.class_order,
            choice=self.classes,
            val_fraction=self.val_fraction,
            seed=seed,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
            decoding=self.decoding,
            shards=self.shards,
        )


def check_image_data(data: Any) -> None:
    """Raises a `RecipeError` unless the numbers are possible that `data` has wherever images are of one size."""
    for name in ("image_size", "resize_size"):
        value = getattr(data, name)
        sides = value if isinstance(value, tuple) else () if value is None or value == "auto" else (value,)
        require(all(1 <= side <= 16384 for side in sides), f"data.{name}", value, "1 to 16,384 pixels")
    require_counts(data, "data", {"batch_size": 10**6, "max_pixels": 10**12, "white_level": 65535})
    require_counts(data, "data", {"num_workers": 1024}, least=0)
    require(0 < data.val_fraction < 1, "data.val_fraction", data.val_fraction, "above 0, below 1")


def check_root(data: Any) -> None:
    """Raises a `RecipeError` where `data` is of images that are not in the package, and does not say where."""
    if data.kind != "fashion_sample" and data.root is None:
        raise RecipeError(f"data.kind={data.kind!r} needs data.root: add --data.root FOLDER")


@dataclass(frozen=True, kw_only=True)
class ScheduleRecipe:
    """A linear rise of the learning rate, then half a cosine, in optimizer steps.

    Attributes:
        epochs: passes over the training images; "auto" for about 1,500 steps, 10 to 60 passes.
        warmup_epochs: length of the rise; may be a fraction. null for the official 20, at most a tenth of the run.
        warmup_lr: the rate that it starts from; scaled like `optimizer.lr`.
        min_lr: the rate that the cosine ends at; scaled like `optimizer.lr`.
    """

    epochs: int | Auto = 300
    warmup_epochs: float | None = None
    warmup_lr: float = 5e-7
    min_lr: float = 5e-6

    def __post_init__(self) -> None:
        require_counts(self, "schedule", {"epochs": 10**6})
        warmup, fix = self.warmup_epochs, f"at least 0 and below schedule.epochs={self.epochs}, or null"
        require(
            warmup is None or self.epochs == "auto" or 0 <= warmup < self.epochs, "schedule.warmup_epochs", warmup, fix
        )
        require(self.warmup_lr >= 0, "schedule.warmup_lr", self.warmup_lr, "at least 0")
        require(self.min_lr >= 0, "schedule.min_lr", self.min_lr, "at least 0")


@dataclass(frozen=True, kw_only=True)
class LossRecipe:
    """Cross entropy; of "multi_label" data binary cross entropy of each class, and their mean.

    Attributes:
        label_smoothing: probability that is spread evenly over all classes; for "multi_label" over yes and no.
        class_weights: what an image of each class counts, in the order of the classes; "balanced" for the inverse of
            how many training images it has, with a mean of 1 over the images; null for 1. For "multi_label": what an
            image that has the class counts for one that has not (`pos_weight`); "balanced" for how many more the latter
            are.
    """

    label_smoothing: float = 0.1
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None

    def __post_init__(self) -> None:
        require(0 <= self.label_smoothing < 1, "loss.label_smoothing", self.label_smoothing, "in [0, 1)")
        require_class_weights(self.class_weights, "numbers of at least 0, balanced, or null")


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """A whole training run of a classifier.

    Attributes:
        model: what is trained.
        data: on what.
        optimizer: AdamW's numbers.
        schedule: the learning rate over time.
        loss: the loss.
    """

    task: ClassVar[Task] = "classification"
    renamed: ClassVar[Mapping[str, str]] = {"data.augmentation.hflip": "data.augmentation.flip_prob"}

    model: ClassifierModelRecipe
    data: DataRecipe = field(default_factory=DataRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)

    def __post_init__(self) -> None:
        self.model.described_config("classification")
        require_one_rate(self.optimizer)
