"""The recipe of a detector's training run, a tree of frozen dataclasses. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ...data.detection.augmentation import DetectionAugmentation
from ...data.detection.folders import CocoFolder
from ...data.detection.source import FOLDER_KINDS, DetectionKind, DetectionSource
from ...models.config import DetectorConfig, Task
from .dense import (
    DenseScheduleRecipe,
    DenseTrainerRecipe,
    Scale,
    check_dense_data,
    check_lengths,
    check_scenes_root,
    given_folders,
)
from .parts import Auto, BaseRecipe, ModelRecipe, OptimizerRecipe, require


@dataclass(frozen=True, kw_only=True)
class DetectionDataRecipe:
    """Which images, how they are prepared and how they are batched.

    Attributes:
        kind: "folder" (your own images with annotations, whose layout is recognised), one layout by name ("coco",
            "yolo", "voc", "labelme", "label_studio", "cvat"), "scenes_sample" (scenes of the Fashion-MNIST items in the
            package, made on the fly) or "scenes" (of all of Fashion-MNIST, from `root`).
        root: the folder of images and annotations (see the guide); for "scenes" that of Fashion-MNIST's four files.
        train_images: instead of `root`, the folder of the training images.
        train_annotations: their COCO annotations.
        val_images: the folder of the validation images.
        val_annotations: their COCO annotations.
        train_stuff: the folder of their label maps, for HTC; null for `root`'s stuffthingmaps/, where it has them.
        classes: the classes to keep, [car, person], or {vehicle: [car, truck], person: [person]}, which makes one of
            several; "*" in such a list is all others. null for all.
        val_fraction: part of the images that is held out where `root` has none for validation.
        keep_empty: whether images without objects are kept for training.
        box_masks: whether objects annotated without a mask get their box as mask, rather than being an error.
        allow_outside: whether file names in the annotations may be absolute or climb out of the images' folder by "..".
        num_scenes: different scenes for training.
        num_val_scenes: scenes of a validation, made of other items.
        scene_size: height and width of a scene in pixels.
        scale: [longest, shortest] side in pixels that images are resized within, for evaluation and use; training's
            sizes are the augmentation's. null for no resize. "auto" takes that of the weights where they are of a model
            for the task; else the default, made smaller as far as it would enlarge the usual image more than twice.
        max_pixels: larger image files cannot be used; null for Pillow's limit, 179 million (2 x MAX_IMAGE_PIXELS).
        white_level: the value of white in image files of 16 bits, such as 4095 where 12 are used; null for 65535.
        batch_size: images of a step on one device; wide and upright ones are not mixed. "auto" chooses by the number
            of training images, at most 8, and by the memory.
        num_workers: processes that read and change images; 0 reads in the training process.
        augmentation: the random changes.
    """

    kind: DetectionKind = "coco"
    root: str | None = None
    train_images: str | None = None
    train_annotations: str | None = None
    val_images: str | None = None
    val_annotations: str | None = None
    train_stuff: str | None = None
    classes: dict[str, list[str]] | list[str] | None = None
    val_fraction: float = 0.2
    keep_empty: bool = False
    box_masks: bool = False
    allow_outside: bool = False
    num_scenes: int = 4000
    num_val_scenes: int = 200
    scene_size: tuple[int, int] = (128, 128)
    scale: Scale | Auto | None = (1333, 800)
    max_pixels: int | None = None
    white_level: int | None = None
    batch_size: int | Auto = 2
    num_workers: int = 4
    augmentation: DetectionAugmentation = field(default_factory=DetectionAugmentation)

    def __post_init__(self) -> None:
        check_dense_data(self)
        require(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "above 0, below 1")

    def source(self, *, seed: int = 0, stuff: bool = False) -> DetectionSource:
        """Where the images are; a `RecipeError` where the recipe does not say."""
        check_scenes_root(self)
        parts: dict[str, CocoFolder] = {}
        for split in ("train", "val") if self.kind in FOLDER_KINDS else ():
            if given := given_folders(self, split, "annotations"):
                parts[split] = CocoFolder(images_folder=Path(given[0]), annotations_file=Path(given[1]))
        return DetectionSource(
            kind=self.kind,
            root=self.root,
            train=parts.get("train"),
            val=parts.get("val"),
            choice=self.classes,
            val_fraction=self.val_fraction,
            keep_empty=self.keep_empty,
            box_masks=self.box_masks,
            allow_outside=self.allow_outside,
            stuff=stuff,
            stuff_folder=self.train_stuff,
            num_scenes=self.num_scenes,
            num_val_scenes=self.num_val_scenes,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
            scene_size=self.scene_size,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(BaseRecipe):
    """A whole training run of a detector.

    Attributes:
        model: what is trained.
        data: on what.
        optimizer: AdamW's numbers.
        schedule: the learning rate over time.
    """

    task: ClassVar[Task] = "detection"

    model: ModelRecipe
    data: DetectionDataRecipe = field(default_factory=DetectionDataRecipe)
    optimizer: OptimizerRecipe = field(
        default_factory=lambda: OptimizerRecipe(lr=1e-4, scale_lr=16, clip_grad_norm=None)
    )
    schedule: DenseScheduleRecipe = field(default_factory=DenseScheduleRecipe)
    trainer: DenseTrainerRecipe = field(default_factory=DenseTrainerRecipe)

    def __post_init__(self) -> None:
        check_lengths(self.schedule, self.trainer)
        config = self.model.described_config("detection")
        if isinstance(config, DetectorConfig) and config.method == "htc" and self.data.kind in FOLDER_KINDS:
            has_stuff = self.data.root is not None or self.data.train_stuff is not None
            given = self.data.train_images is None or has_stuff
            require(given, "data.train_stuff", None, "the folder of label maps that HTC's semantic branch learns from")
