"""Where images with objects are: one description for training and evaluation. Imports torch only to open it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .folders import CocoFolder, find_coco

if TYPE_CHECKING:
    from ..scenes.dataset import SceneDataset
    from .coco import CocoDataset

DetectionKind = Literal["coco", "scenes_sample", "scenes"]


@dataclass(frozen=True, kw_only=True)
class DetectionSource:
    """A data set of detection.

    Attributes:
        kind: "coco" (folders of images with COCO's annotations), "scenes_sample" (scenes of the Fashion-MNIST items in
            the package) or "scenes" (of all of Fashion-MNIST, from the four files in `root`).
        root: the folder, see `find_coco`.
        train: instead of `root`, where the training part is.
        val: likewise the validation part.
        classes: a model's class names; None for the annotations' own.
        box_masks: whether objects annotated without a mask get their box as mask.
        allow_outside: whether file names in annotations may lead out of the images' folder.
        stuff: whether training's label maps of stuff are read, as HTC needs them.
        stuff_folder: where they are; None for `root`'s stuffthingmaps/.
        num_scenes: scenes for training.
        num_val_scenes: scenes of a validation.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        scene_size: (height, width) of a scene in pixels.
        seed: chooses the scenes.
    """

    kind: DetectionKind = "coco"
    root: str | None = None
    train: CocoFolder | None = None
    val: CocoFolder | None = None
    classes: tuple[str, ...] | None = None
    box_masks: bool = False
    allow_outside: bool = False
    stuff: bool = False
    stuff_folder: str | None = None
    num_scenes: int = 4000
    num_val_scenes: int = 200
    max_pixels: int | None = None
    scene_size: tuple[int, int] = (128, 128)
    seed: int = 0

    def folder(self, split: Literal["train", "val"]) -> CocoFolder:
        """Where a part of kind "coco" is. A `DataError` says what was looked for."""
        given = self.train if split == "train" else self.val
        if given is not None:
            return given
        assert self.root is not None, "who makes it has checked that"
        return find_coco(self.root, split)

    def open(self, split: Literal["train", "val"], *, training: bool = False) -> CocoDataset | SceneDataset:
        """One part of it. A `DataError` says what is missing or broken.

        Args:
            split: which part.
            training: whether to leave out images that nothing can be learnt from, and to read label maps of stuff.
        """
        if self.kind != "coco":
            from ..scenes.dataset import open_scenes

            number = self.num_scenes if split == "train" else self.num_val_scenes
            return open_scenes(
                self.kind, split, num_scenes=number, root=self.root, seed=self.seed, image_size=self.scene_size
            )
        from .coco import CocoDataset

        folder = self.folder(split)
        stuff_folder = (self.stuff_folder or folder.stuff_folder) if self.stuff and training else None
        return CocoDataset(
            folder.images_folder,
            folder.annotations_file,
            classes=self.classes,
            stuff_folder=stuff_folder,
            keep_empty=not training,
            box_masks=self.box_masks,
            allow_outside=self.allow_outside,
            max_pixels=self.max_pixels,
        )
