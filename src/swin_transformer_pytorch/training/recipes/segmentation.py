"""The recipe of a segmenter's training run, a tree of frozen dataclasses. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ...data.segmentation.augmentation import SegmentationAugmentation
from ...data.segmentation.source import DRAWN_KINDS, SegmentationKind, SegmentationSource
from ...labels import IGNORED
from ...models.config import SegmenterConfig, Task
from .dense import (
    DenseScheduleRecipe,
    DenseTrainerRecipe,
    Scale,
    check_dense_data,
    check_lengths,
    check_scenes_root,
    given_folders,
)
from .parts import Auto, BaseRecipe, ModelRecipe, OptimizerRecipe, require, require_class_weights


@dataclass(frozen=True, kw_only=True)
class SegmentationDataRecipe:
    """Which images, how they are prepared and how they are batched.

    Attributes:
        kind: "ade20k" (SceneParse150, 0 in its label maps is ignored), "voc" (Pascal VOC), "cityscapes", "folder" (your
            own images with a label PNG each; these three are recognised by their folders, which is said), "coco",
            "labelme", "label_studio" or "cvat" (objects' outlines are drawn, later ones over earlier ones),
            "scenes_sample" (scenes of the Fashion-MNIST items in the package, made on the fly) or "scenes" (of all of
            Fashion-MNIST, from `root`).
        root: the folder of images and label maps, in any of the usual layouts (see the guide); for "scenes" that of
            Fashion-MNIST's four files.
        train_images: for "folder", instead of `root`, the folder of the training images.
        train_labels: their label PNGs, of the images' names; for "coco" their annotations.
        val_images: the folder of the validation images.
        val_labels: their label PNGs.
        classes: for "folder", a file of the classes' names by label, one a line; null for the classes.txt there. Or the
            classes to keep, [car, person], or {vehicle: [car, truck], person: [person]}, which makes one of
            several; "*" in such a list is all others. Pixels of what is left out are ignored.
        background: for drawn outlines, whether pixels of no object are a class "background", the first; else they are
            ignored.
        label_suffix: what the names of label maps have at the end that those of images have not, such as "_mask"; null
            to find out.
        ignore_label: for "folder", pixels of this value are ignored, as those of 255 always are.
        val_fraction: part of the images that is held out where `root` has no validation images.
        num_scenes: different scenes for training.
        num_val_scenes: scenes of a validation, made of other items.
        scene_size: height and width of a scene in pixels.
        scale: [longest, shortest] side in pixels that images are resized within, for evaluation and use; training's
            sizes are the augmentation's. null for no resize. "auto" takes that of the weights where they are of a model
            for the task; else the default, made smaller as far as it would enlarge the usual image more than twice.
        max_pixels: larger image files cannot be used; null for Pillow's limit, 179 million (2 x MAX_IMAGE_PIXELS).
        white_level: the value of white in image files of 16 bits, such as 4095 where 12 are used; null for 65535.
        batch_size: images of a step on one device; "auto" chooses by the number of training images, at most 8, and by
            the memory.
        num_workers: processes that read and change images; 0 reads in the training process.
        augmentation: the random changes.
    """

    kind: SegmentationKind = "ade20k"
    root: str | None = None
    train_images: str | None = None
    train_labels: str | None = None
    val_images: str | None = None
    val_labels: str | None = None
    classes: dict[str, list[str]] | list[str] | str | None = None
    background: bool = False
    label_suffix: str | None = None
    ignore_label: int = IGNORED
    val_fraction: float = 0.2
    num_scenes: int = 4000
    num_val_scenes: int = 200
    scene_size: tuple[int, int] = (128, 128)
    scale: Scale | Auto | None = (2048, 512)
    max_pixels: int | None = None
    white_level: int | None = None
    batch_size: int | Auto = 2
    num_workers: int = 4
    augmentation: SegmentationAugmentation = field(default_factory=SegmentationAugmentation)

    def __post_init__(self) -> None:
        check_dense_data(self)
        drawn = self.kind in DRAWN_KINDS
        require(drawn or not self.background, "data.background", True, f"false: kind={self.kind!r} says all pixels")
        require(0 <= self.ignore_label <= 255, "data.ignore_label", self.ignore_label, "0 to 255")
        require(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "above 0, below 1")

    def source(self, *, seed: int = 0) -> SegmentationSource:
        """Where the images are; a `RecipeError` where the recipe does not say."""
        check_scenes_root(self)
        of_folders = self.kind not in ("scenes", "scenes_sample")
        return SegmentationSource(
            kind=self.kind,
            root=self.root,
            train=given_folders(self, "train", "labels") if of_folders else None,
            val=given_folders(self, "val", "labels") if of_folders else None,
            classes=self.classes if isinstance(self.classes, str) else None,
            choice=None if isinstance(self.classes, str) else self.classes,
            background=self.background,
            label_suffix=self.label_suffix,
            ignore_label=self.ignore_label,
            val_fraction=self.val_fraction,
            seed=seed,
            num_scenes=self.num_scenes,
            num_val_scenes=self.num_val_scenes,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
            scene_size=self.scene_size,
        )


@dataclass(frozen=True, kw_only=True)
class PixelLossRecipe:
    """What is minimised, of both heads of UPerNet; a Mask2Former's losses have their weights in its config.

    Attributes:
        focal_gamma: 0 is cross entropy; above it the focal loss, whose usual gamma is 2: pixels that are foretold well
            count less.
        class_weights: what pixels of each class count, in the order of the classes; null for 1.
        dice_weight: the weight of the Dice loss, the overlap of each class whatever its size; 0 for none.
    """

    focal_gamma: float = 0.0
    class_weights: tuple[float, ...] | None = None
    dice_weight: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.focal_gamma <= 10, "loss.focal_gamma", self.focal_gamma, "0 to 10")
        require(self.dice_weight >= 0, "loss.dice_weight", self.dice_weight, "at least 0")
        require_class_weights(self.class_weights, "numbers of at least 0, or null")


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(BaseRecipe):
    """A whole training run of a segmenter.

    Attributes:
        model: what is trained.
        data: on what.
        optimizer: AdamW's numbers.
        schedule: the learning rate over time.
        loss: the losses.
    """

    task: ClassVar[Task] = "segmentation"

    model: ModelRecipe
    data: SegmentationDataRecipe = field(default_factory=SegmentationDataRecipe)
    optimizer: OptimizerRecipe = field(
        default_factory=lambda: OptimizerRecipe(lr=6e-5, scale_lr=16, weight_decay=0.01, clip_grad_norm=None)
    )
    schedule: DenseScheduleRecipe = field(default_factory=lambda: DenseScheduleRecipe(kind="poly", warmup_ratio=1e-6))
    loss: PixelLossRecipe = field(default_factory=PixelLossRecipe)
    trainer: DenseTrainerRecipe = field(default_factory=DenseTrainerRecipe)

    def __post_init__(self) -> None:
        check_lengths(self.schedule, self.trainer)
        if isinstance(self.model.described_config("segmentation"), SegmenterConfig):
            require_several_images(self)


def require_several_images(recipe: SegmentationRecipe) -> None:
    """Raises a `RecipeError` where a step has one image alone, of UPerNet.

    Pooling to one cell leaves batch norm a single value a channel.
    """
    batch = recipe.data.batch_size
    enough = batch == "auto" or batch * recipe.trainer.world_size >= 2
    require(enough, "data.batch_size", batch, "at least 2: batch norm needs them")
