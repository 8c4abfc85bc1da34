"""The recipe of a run of masked pre-training (SimMIM), frozen dataclasses. Its defaults are the official ones.

What is hidden and what is to be foretold are the model's, `mask_unit`, `mask_ratio` and `target_window` of its config:
they travel in its file. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ...data.classification.augmentation import Augmentation
from ...data.images.decoding import Decoding
from ...data.shards.options import ShardOptions
from ...data.unlabelled.source import UnlabelledKind, UnlabelledSource
from ...models.config import Task
from ...weights.preprocessing import Interpolation
from .classification import ScheduleRecipe, check_image_data, check_root
from .parts import Auto, BaseRecipe, ModelRecipe, OptimizerRecipe, require, require_one_rate, require_rising


@dataclass(frozen=True, kw_only=True)
class MaskedModelRecipe(ModelRecipe):
    """Which model is trained, and what it starts from.

    Attributes:
        name: a name of `swin models --task pretraining`, such as "simmim_swin_base_patch4_window6_192".
        config: instead of a name, the fields of `MaskedConfig`: `backbone` with those of `SwinConfig`, `mask_unit`,
            `mask_ratio`, `target_window`. With neither, `weights` must be a checkpoint of ours of such a model.
        weights: what the model starts from, another such model: a path, a URL or a hub id; null starts from random.
        num_classes: null: such a model has none.
        config_overrides: fields of the config or its backbone that differ, such as `mask_ratio: 0.5`.
    """


@dataclass(frozen=True, kw_only=True)
class UnlabelledDataRecipe:
    """Which images, how they are prepared and how they are batched. Labels are not looked at.

    Attributes:
        kind: "folder" (all images in `root` and its folders; those of root/train/ alone where there is one), "shards"
            (what `swin shards` made, recognised too), "fashion_sample" (the 2,000 images in the package) or
            "fashion_mnist" (all 60,000, from the four files in `root`).
        root: the folder of images, for the kinds that have one; of shards also an address, such as s3://bucket/shards.
        image_size: side of the model's images in pixels, or (height, width), of whole squares of `mask_unit`; null for
            the model's own, else 192 (fashion kinds: 28).
        resize_size: validation's resize: an int is the shorter side, of which the centre is then cut out; a pair is
            both sides, without a crop; null for the official rule of classifiers (219 for 192).
        interpolation: of resizes: "bilinear", as official, "bicubic" or "nearest".
        max_pixels: larger image files cannot be used; null for Pillow's limit, 179 million (2 x MAX_IMAGE_PIXELS).
        white_level: the value of white in image files of 16 bits, such as 4095 where 12 are used; null for 65535.
        decoding: "exact" decodes all pixels, as evaluation does by default; "scaled" decodes large JPEGs at a half, a
            quarter or an eighth of their sides, where the crop still has twice as many pixels along both as the model
            takes: faster, with slightly other numbers. Evaluate and predict with the same.
        batch_size: images of a step on one device; "auto" chooses by the number of training images, at most 64, and by
            the memory.
        num_workers: processes that read and change images; 0 reads in the training process.
        val_fraction: part of the images that validation is on, where the folder has no val/; at least one.
        shards: for "shards", how they are shuffled, and kept where `root` is an address.
        augmentation: the random changes; none that mix images.
    """

    kind: UnlabelledKind = "folder"
    root: str | None = None
    image_size: int | tuple[int, int] | None = None
    resize_size: int | tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    max_pixels: int | None = None
    white_level: int | None = None
    decoding: Decoding = "exact"
    batch_size: int | Auto = 128
    num_workers: int = 4
    val_fraction: float = 0.01
    shards: ShardOptions = field(default_factory=ShardOptions)
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            crop_scale=(0.67, 1.0), color_jitter=0.0, auto_augment=None, erase_prob=0.0, mixup=0.0, cutmix=0.0
        )
    )

    def __post_init__(self) -> None:
        check_image_data(self)
        for name in ("mixup", "cutmix"):
            value = getattr(self.augmentation, name)
            require(not value, f"data.augmentation.{name}", value, "0: there are no labels to mix")

    def source(self, *, seed: int = 0) -> UnlabelledSource:
        """Where the images are; a `RecipeError` where the recipe does not say."""
        check_root(self)
        return UnlabelledSource(
            kind=self.kind,
            root=self.root,
            val_fraction=self.val_fraction,
            seed=seed,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
            decoding=self.decoding,
            shards=self.shards,
        )


@dataclass(frozen=True, kw_only=True)
class PretrainingScheduleRecipe(ScheduleRecipe):
    """A linear rise of the learning rate, then its fall, in optimizer steps.

    Attributes:
        kind: "cosine" is half a cosine from the end of the rise on; "multistep" multiplies the rate by `gamma` after
            each of `milestones`.
        epochs: passes over the training images; "auto" for about 10,000 steps, 20 to 400 passes.
        warmup_epochs: length of the rise; may be a fraction. null for the official 10, at most a tenth of the run.
        warmup_lr: the rate that it starts from; scaled like `optimizer.lr`.
        min_lr: for "cosine": the rate at the end; scaled like `optimizer.lr`.
        milestones: for "multistep": after how many epochs, counted from the run's first, the rate falls.
        gamma: for "multistep": what the rate is multiplied by.
    """

    kind: Literal["cosine", "multistep"] = "cosine"
    epochs: int | Auto = 100
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_rising("schedule.milestones", self.milestones)
        needed = self.kind == "multistep"
        fix = "one epoch at least" if needed else "none with schedule.kind=cosine"
        require(bool(self.milestones) == needed, "schedule.milestones", self.milestones, fix)
        late = [m for m in self.milestones if self.epochs != "auto" and m >= self.epochs]
        require(not late, "schedule.milestones", self.milestones, f"epochs before schedule.epochs={self.epochs}")
        require(0 < self.gamma <= 1, "schedule.gamma", self.gamma, "in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class PretrainingRecipe(BaseRecipe):
    """A whole run of masked pre-training.

    Attributes:
        model: what is trained.
        data: on what.
        optimizer: AdamW's numbers.
        schedule: the learning rate over time.
    """

    task: ClassVar[Task] = "pretraining"

    model: MaskedModelRecipe
    data: UnlabelledDataRecipe = field(default_factory=UnlabelledDataRecipe)
    optimizer: OptimizerRecipe = field(default_factory=lambda: OptimizerRecipe(lr=2e-4))
    schedule: PretrainingScheduleRecipe = field(default_factory=PretrainingScheduleRecipe)

    def __post_init__(self) -> None:
        self.model.described_config("pretraining")
        require_one_rate(self.optimizer)
        require(self.model.num_classes is None, "model.num_classes", self.model.num_classes, "null: there are none")
        frozen = self.trainer.freeze
        fix = "null, or a number of stages: what is pre-trained is the backbone"
        require(not isinstance(frozen, str), "trainer.freeze", frozen, fix)
