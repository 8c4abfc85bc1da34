"""Where images with segments are: one description for training and evaluation. Imports torch only to open it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...labels import IGNORED
from ..choice import ClassChoice
from ..held_out import Split
from .folders import PanopticFolder, find_panoptic

if TYPE_CHECKING:
    from .dataset import PanopticDataset

PanopticKind = Literal["coco"]


@dataclass(frozen=True, kw_only=True)
class PanopticSource:
    """A data set of segments.

    Attributes:
        kind: "coco" (COCO's panoptic format, in the layouts of `find_panoptic`).
        root: the folder.
        train: instead of `root`, where the training part is.
        val: likewise the validation part.
        classes: a model's class names; None for the annotations' own.
        choice: which of the annotations' classes there are, and which become one, before that; None for all.
        label_suffix: what the names of label PNGs have at the end that those of images have not; None to look.
        ignore_label: pixels of this value in label PNGs are void, as those of 255 always are.
        val_fraction: the part of the images that is held out where `root` has none for validation.
        seed: chooses what is held out, and the scenes.
        num_scenes: scenes for training.
        num_val_scenes: scenes of a validation.
        scene_size: (height, width) of a scene in pixels.
        channels: of the images: 3 for RGB, 1 for grey, or those of files of bands; see `images.bands.read_pixels`.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `images.decode.read_image`.
    """

    kind: PanopticKind = "coco"
    root: str | None = None
    train: PanopticFolder | None = None
    val: PanopticFolder | None = None
    classes: tuple[str, ...] | None = None
    choice: ClassChoice | None = None
    label_suffix: str | None = None
    ignore_label: int = IGNORED
    val_fraction: float = 0.2
    seed: int = 0
    num_scenes: int = 4000
    num_val_scenes: int = 200
    scene_size: tuple[int, int] = (128, 128)
    channels: int | None = 3
    max_pixels: int | None = None
    white_level: int | None = None

    def folder(self, split: Split) -> PanopticFolder:
        """Where a part is. A `DataError` says what was looked for."""
        given = self.train if split == "train" else self.val
        if given is not None:
            return given
        assert self.root is not None, "who makes it has checked that"
        return find_panoptic(self.root, split)

    def open(self, split: Split) -> PanopticDataset:
        """One part of it. A `DataError` says what is missing or broken."""
        from .dataset import PanopticDataset

        folder = self.folder(split)
        return PanopticDataset(
            folder.images_folder,
            folder.annotations_file,
            folder.segments_folder,
            classes=self.classes,
            read=lambda path: self.read(folder, split, path),
            channels=self.channels,
            max_pixels=self.max_pixels,
            white_level=self.white_level,
        )

    def read(self, folder: PanopticFolder, split: Split, path: Path) -> dict[str, Any]:
        """COCO's dictionary of a part, without what is held out of it."""
        from ..detection.selection import held_out

        document = folder.read(path)
        if folder.hold_out:
            document = held_out(document, split, path, val_fraction=self.val_fraction, seed=self.seed)
        return document
