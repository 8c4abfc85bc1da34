"""Where images with label maps are: one description for training and evaluation. Imports torch only to open it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from ...colours import Colour
from ...labels import IGNORED
from ..choice import ClassChoice
from ..errors import DataError
from .folders import DrawnKind

if TYPE_CHECKING:
    from .dataset import SceneLabelMaps, SegmentationFolder
    from .drawn import DrawnLabelMaps

SegmentationKind = Literal["ade20k", "folder", "voc", "cityscapes", DrawnKind, "scenes_sample", "scenes"]
KNOWN_KINDS = ("ade20k", "voc", "cityscapes")
DRAWN_KINDS = get_args(DrawnKind)
"""Those of detection, whose objects' outlines are drawn, see `DrawnLabelMaps`."""


@dataclass(frozen=True, kw_only=True)
class SegmentationSource:
    """A data set of segmentation.

    Attributes:
        kind: "ade20k" (SceneParse150, whatever its folders are called), "voc" (Pascal VOC), "cityscapes", "folder"
            (images with a label PNG each, these among them, see `open_segmentation`), one of `DRAWN_KINDS`,
            "scenes_sample" (scenes of the Fashion-MNIST items in the package) or "scenes" (of all of Fashion-MNIST,
            from the four files in `root`).
        root: the folder, see `find_segmentation`.
        train: instead of `root`, the folders of the training images and of their label maps, or COCO's annotations.
        val: likewise those of validation.
        classes: the class names by label, or a file of them; None for those beside the folders, or ADE20K's own.
        choice: which of these there are in the end, and which become one, see `choose_classes`.
        label_suffix: what the names of label maps have at the end that those of images have not; None to look.
        background: of `DRAWN_KINDS`, whether pixels of no object are a class, or ignored.
        palette: a colour of each class for label maps in colours; None for the classes file's.
        ignore_label: pixels of this value are ignored, as those of 255 always are.
        val_fraction: the part that is held out where `root` has no validation images.
        seed: of that choice, and of the scenes.
        num_scenes: scenes for training.
        num_val_scenes: scenes of a validation.
        channels: of the images: 3 for RGB, 1 for grey, or those of files of bands; see `images.bands.read_pixels`.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `images.decode.read_image`.
        scene_size: (height, width) of a scene in pixels.
    """

    kind: SegmentationKind = "ade20k"
    root: str | None = None
    train: tuple[str, str] | None = None
    val: tuple[str, str] | None = None
    classes: str | Sequence[str] | None = None
    choice: ClassChoice | None = None
    label_suffix: str | None = None
    background: bool = False
    palette: Sequence[Colour] | None = None
    ignore_label: int = IGNORED
    val_fraction: float = 0.2
    seed: int = 0
    num_scenes: int = 4000
    num_val_scenes: int = 200
    channels: int | None = 3
    max_pixels: int | None = None
    white_level: int | None = None
    scene_size: tuple[int, int] = (128, 128)

    def open(self, split: Literal["train", "val", "test"]) -> SegmentationFolder | SceneLabelMaps | DrawnLabelMaps:
        """One part of it. A `DataError` says what is missing or broken."""
        from .dataset import SceneLabelMaps, SegmentationFolder, ade20k_folder, open_segmentation

        if self.kind == "scenes_sample" or self.kind == "scenes":
            from ..scenes.dataset import open_scenes

            number = self.num_scenes if split == "train" else self.num_val_scenes
            scenes = open_scenes(
                self.kind,
                split,
                num_scenes=number,
                root=self.root,
                seed=self.seed,
                image_size=self.scene_size,
            )
            return SceneLabelMaps(scenes)
        if self.kind in DRAWN_KINDS:
            return self._drawn(split)
        if self.kind == "ade20k" and self.classes is not None:
            raise DataError(f"data.classes={self.classes!r} does not go with data.kind='ade20k'; use 'folder' for it")
        folders = self.train if split == "train" else self.val
        if folders is not None and self.kind == "ade20k":
            return ade20k_folder(
                *folders,
                ignore_label=self.ignore_label,
                choice=self.choice,
                channels=self.channels,
                max_pixels=self.max_pixels,
                white_level=self.white_level,
            )
        if folders is not None:
            return SegmentationFolder(
                *folders,
                classes=self.classes,
                palette=self.palette,
                ignore_label=self.ignore_label,
                choice=self.choice,
                suffixes=("", self.label_suffix),
                channels=self.channels,
                max_pixels=self.max_pixels,
                white_level=self.white_level,
            )
        assert self.root is not None, "who makes it has checked that"
        return open_segmentation(
            self.root,
            split,
            classes=self.classes,
            ignore_label=self.ignore_label,
            val_fraction=self.val_fraction,
            seed=self.seed,
            channels=self.channels,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
            kind=None if self.kind == "folder" else self.kind,
            choice=self.choice,
            label_suffix=self.label_suffix,
        )

    def _drawn(self, split: Literal["train", "val", "test"]) -> DrawnLabelMaps:
        from ..detection.folders import CocoFolder
        from ..detection.source import DetectionSource
        from .classes import read_classes
        from .drawn import DrawnLabelMaps

        train, val = (
            CocoFolder(images_folder=Path(given[0]), annotations_file=Path(given[1])) if given else None
            for given in (self.train, self.val)
        )
        source = DetectionSource(
            kind=cast(DrawnKind, self.kind),
            root=self.root,
            train=train,
            val=val,
            val_fraction=self.val_fraction,
            channels=self.channels,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
            seed=self.seed,
        )
        classes = read_classes(self.classes).names if isinstance(self.classes, str) else self.classes
        return DrawnLabelMaps(source, split, classes=classes, choice=self.choice, background=self.background)
