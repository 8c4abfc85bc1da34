"""The recipe of a panoptic training run, a tree of frozen dataclasses. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ...data.panoptic.augmentation import PanopticAugmentation
from ...data.panoptic.folders import PanopticFolder
from ...data.panoptic.layouts import InstanceMapFolders
from ...data.panoptic.source import PanopticKind, PanopticSource
from ...labels import IGNORED
from ...models.config import Task
from .dense import (
    DenseScheduleRecipe,
    DenseTrainerRecipe,
    Scale,
    check_dense_data,
    check_lengths,
    check_scenes_root,
)
from .parts import Auto, BaseRecipe, ModelRecipe, OptimizerRecipe, RecipeError, require

_COCO, _MAPS = ("images", "annotations", "segments"), ("images", "labels", "instances")


@dataclass(frozen=True, kw_only=True)
class PanopticDataRecipe:
    """Which images, how they are prepared and how they are batched.

    Attributes:
        kind: "folder" (your own images in one of the next two layouts, which is recognised), "coco" (COCO's panoptic
            format; Cityscapes' and ADE20K's own tools write it too), "instance_maps" (a label PNG and an instance PNG
            an image), "scenes_sample" (scenes of the Fashion-MNIST items in the package, made on the fly) or "scenes"
            (of all of Fashion-MNIST, from `root`).
        root: the folder of images and segments (see the guide); for "scenes" that of Fashion-MNIST's four files.
        train_images: instead of `root`, the folder of the training images.
        train_annotations: their panoptic JSON, and then
        train_segments: the folder of their PNGs of segments.
        train_labels: or the folder of their label PNGs, and then
        train_instances: the folder of their instance PNGs.
        val_images: the folder of the validation images.
        val_annotations: their panoptic JSON, and then
        val_segments: the folder of their PNGs of segments.
        val_labels: or the folder of their label PNGs, and then
        val_instances: the folder of their instance PNGs.
        things: of label and instance PNGs, the classes of things; null for things.txt, or those that have objects.
        classes: the classes to keep, [car, sky], or {vehicle: [car, truck], sky: [sky]}, which makes one of several;
            "*" in such a list is all others. Pixels of what is left out are void. null for all.
        label_suffix: what the names of label maps have at the end that those of images have not, such as "_mask"; null
            to find out.
        ignore_label: pixels of this value in label maps are void, as those of 255 always are.
        val_fraction: part of the images that is held out where `root` has none for validation.
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

    kind: PanopticKind = "folder"
    root: str | None = None
    train_images: str | None = None
    train_annotations: str | None = None
    train_segments: str | None = None
    train_labels: str | None = None
    train_instances: str | None = None
    val_images: str | None = None
    val_annotations: str | None = None
    val_segments: str | None = None
    val_labels: str | None = None
    val_instances: str | None = None
    things: list[str] | None = None
    classes: dict[str, list[str]] | list[str] | None = None
    label_suffix: str | None = None
    ignore_label: int = IGNORED
    val_fraction: float = 0.2
    num_scenes: int = 4000
    num_val_scenes: int = 200
    scene_size: tuple[int, int] = (128, 128)
    scale: Scale | Auto | None = (1333, 800)
    max_pixels: int | None = None
    white_level: int | None = None
    batch_size: int | Auto = 2
    num_workers: int = 4
    augmentation: PanopticAugmentation = field(default_factory=PanopticAugmentation)

    def __post_init__(self) -> None:
        check_dense_data(self)
        require(0 <= self.ignore_label <= 255, "data.ignore_label", self.ignore_label, "0 to 255")
        require(0 < self.val_fraction < 1, "data.val_fraction", self.val_fraction, "above 0, below 1")

    def source(self, *, seed: int = 0) -> PanopticSource:
        """Where the images are; a `RecipeError` where the recipe does not say."""
        check_scenes_root(self)
        of_folders = self.kind not in ("scenes", "scenes_sample")
        return PanopticSource(
            kind=self.kind,
            root=self.root,
            train=self._given("train") if of_folders else None,
            val=self._given("val") if of_folders else None,
            things=None if self.things is None else tuple(self.things),
            choice=self.classes,
            label_suffix=self.label_suffix,
            ignore_label=self.ignore_label,
            val_fraction=self.val_fraction,
            seed=seed,
            num_scenes=self.num_scenes,
            num_val_scenes=self.num_val_scenes,
            scene_size=self.scene_size,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
        )

    def _given(self, split: str) -> PanopticFolder | InstanceMapFolders | None:
        """The three places of a part, where the recipe names them rather than the root."""
        given = {name: value for name in {*_COCO, *_MAPS} if (value := getattr(self, f"{split}_{name}")) is not None}
        if not given and self.root is not None:
            return None
        if not given:
            raise RecipeError(
                f"data.kind={self.kind!r} needs data.root: add --data.root FOLDER, or --data.train_images, "
                "--data.train_annotations and --data.train_segments (or _labels and _instances), and those of val"
            )
        wanted = _MAPS if "labels" in given or "instances" in given else _COCO
        if set(given) != set(wanted):
            raise RecipeError(
                f"of {split}'s places {' and '.join(sorted(given))} are given; a part has three: "
                f"data.{split}_images with {split}_annotations and {split}_segments, or with {split}_labels and "
                f"{split}_instances"
            )
        first, second, third = (Path(given[name]) for name in wanted)
        if wanted is _MAPS:
            return InstanceMapFolders(images=first, labels=second, instances=third)
        return PanopticFolder(images_folder=first, annotations_file=second, segments_folder=third)


@dataclass(frozen=True, kw_only=True)
class PanopticRecipe(BaseRecipe):
    """A whole training run of a panoptic segmenter.

    Attributes:
        model: what is trained.
        data: on what.
        optimizer: AdamW's numbers.
        schedule: the learning rate over time.
    """

    task: ClassVar[Task] = "panoptic"

    model: ModelRecipe
    data: PanopticDataRecipe = field(default_factory=PanopticDataRecipe)
    optimizer: OptimizerRecipe = field(
        default_factory=lambda: OptimizerRecipe(lr=1e-4, scale_lr=16, backbone_lr=0.1, clip_grad_norm=0.01)
    )
    schedule: DenseScheduleRecipe = field(default_factory=lambda: DenseScheduleRecipe(warmup_steps=0))
    trainer: DenseTrainerRecipe = field(default_factory=DenseTrainerRecipe)

    def __post_init__(self) -> None:
        check_lengths(self.schedule, self.trainer)
        self.model.described_config("panoptic")
