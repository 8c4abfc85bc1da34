"""Where images with objects are: one description for training and evaluation. Imports torch only to open it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from ..choice import ClassChoice
from ..held_out import Split
from .folders import CocoFolder, DetectionLayout

if TYPE_CHECKING:
    from ..scenes.dataset import SceneDataset
    from .coco import CocoDataset

DetectionKind = Literal["folder", DetectionLayout, "scenes_sample", "scenes"]

FOLDER_KINDS: tuple[DetectionKind, ...] = ("folder", *get_args(DetectionLayout))
"""Those of images and annotations in files."""


@dataclass(frozen=True, kw_only=True)
class DetectionSource:
    """A data set of detection.

    Attributes:
        kind: "folder" (images with annotations in one of the layouts of `find_parts`), one of these by name, such as
            "coco", "scenes_sample" (scenes of the Fashion-MNIST items in the package) or "scenes" (of all of
            Fashion-MNIST, from the four files in `root`).
        root: the folder.
        train: instead of `root`, where the training part is.
        val: likewise the validation part.
        classes: a model's class names; None for the annotations' own.
        choice: which of the annotations' classes there are, and which become one, before that; None for all.
        val_fraction: the part of the images that is held out where `root` has none for validation.
        keep_empty: whether training keeps images without objects.
        box_masks: whether objects annotated without a mask get their box as mask.
        allow_outside: whether file names in annotations may lead out of the images' folder.
        stuff: whether training's label maps of stuff are read, as HTC needs them.
        stuff_folder: where they are; None for `root`'s stuffthingmaps/.
        num_scenes: scenes for training.
        num_val_scenes: scenes of a validation.
        channels: of the images: 3 for RGB, 1 for grey, or those of files of bands; see `images.bands.read_pixels`.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `images.decode.read_image`.
        scene_size: (height, width) of a scene in pixels.
        seed: chooses the scenes, and what is held out.
    """

    kind: DetectionKind = "coco"
    root: str | None = None
    train: CocoFolder | None = None
    val: CocoFolder | None = None
    classes: tuple[str, ...] | None = None
    choice: ClassChoice | None = None
    val_fraction: float = 0.2
    keep_empty: bool = False
    box_masks: bool = False
    allow_outside: bool = False
    stuff: bool = False
    stuff_folder: str | None = None
    num_scenes: int = 4000
    num_val_scenes: int = 200
    channels: int | None = 3
    max_pixels: int | None = None
    white_level: int | None = None
    scene_size: tuple[int, int] = (128, 128)
    seed: int = 0

    def folder(self, split: Split) -> CocoFolder:
        """Where a part of `FOLDER_KINDS` is. A `DataError` says what was looked for."""
        given = self.train if split == "train" else self.val
        if given is not None:
            return given
        assert self.root is not None, "who makes it has checked that"
        from .layouts import find_detection

        return find_detection(self.root, split, None if self.kind == "folder" else cast(DetectionLayout, self.kind))

    def open(self, split: Split, *, training: bool = False) -> CocoDataset | SceneDataset:
        """One part of it. A `DataError` says what is missing or broken.

        Args:
            split: which part.
            training: whether to leave out images that nothing can be learnt from, and to read label maps of stuff.
        """
        if self.kind == "scenes" or self.kind == "scenes_sample":
            from ..scenes.dataset import open_scenes

            number = self.num_scenes if split == "train" else self.num_val_scenes
            return open_scenes(
                self.kind,
                split,
                num_scenes=number,
                root=self.root,
                seed=self.seed,
                image_size=self.scene_size,
            )
        from .coco import CocoDataset

        folder = self.folder(split)
        stuff_folder = (self.stuff_folder or folder.stuff_folder) if self.stuff and training else None
        return CocoDataset(
            folder.images_folder,
            folder.annotations_file,
            classes=self.classes,
            stuff_folder=stuff_folder,
            read=lambda path: self.read(folder, split, path),
            keep_empty=not training,
            keep_negatives=self.keep_empty,
            box_masks=self.box_masks,
            allow_outside=self.allow_outside,
            channels=self.channels,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
        )

    def read(self, folder: CocoFolder, split: Split, path: Path) -> dict[str, Any]:
        """COCO's dictionary of a part: its classes chosen, and without what is held out of it."""
        from .selection import held_out, with_classes

        document = folder.read(path)
        if self.choice is not None:
            document = with_classes(document, self.choice, path, strict=self.classes is None)
        if folder.hold_out:
            document = held_out(document, split, path, val_fraction=self.val_fraction, seed=self.seed)
        return document
