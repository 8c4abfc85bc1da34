"""Where images with segments are: one description for training and evaluation. Imports torch only to open it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...labels import IGNORED
from ..choice import ClassChoice
from ..errors import DataError, NothingFoundError
from ..held_out import Split, part_of
from .folders import PanopticFolder, find_panoptic
from .layouts import InstanceMapFolders, PanopticLayout, find_instance_maps, recognised

if TYPE_CHECKING:
    from ..scenes.panoptic import PanopticScenes
    from .dataset import PanopticDataset
    from .instance_maps import InstanceMaps

PanopticKind = Literal["folder", PanopticLayout, "scenes_sample", "scenes"]


@dataclass(frozen=True, kw_only=True)
class PanopticSource:
    """A data set of segments.

    Attributes:
        kind: "folder" (one of the next two, which is recognised), "coco" (COCO's panoptic format, in the layouts of
            `find_panoptic`), "instance_maps" (label and instance PNGs, in those of `find_instance_maps`),
            "scenes_sample" (scenes of the Fashion-MNIST items in the package) or "scenes" (of all of Fashion-MNIST,
            from the four files in `root`).
        root: the folder.
        train: instead of `root`, where the training part is.
        val: likewise the validation part.
        classes: a model's class names; None for the data's own.
        things: of label and instance PNGs, which of the classes are things; None for things.txt, or those that have
            objects in the training part.
        choice: which of the data's classes there are, and which become one, before that; None for all.
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

    kind: PanopticKind = "folder"
    root: str | None = None
    train: PanopticFolder | InstanceMapFolders | None = None
    val: PanopticFolder | InstanceMapFolders | None = None
    classes: tuple[str, ...] | None = None
    things: tuple[str, ...] | None = None
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

    def folder(self, split: Split) -> PanopticFolder | InstanceMapFolders:
        """Where a part is. A `DataError` says what was looked for."""
        given = self.train if split == "train" else self.val
        if given is not None:
            return given
        assert self.root is not None, "who makes it has checked that"
        layout = recognised(self.root) if self.kind == "folder" else self.kind
        return (find_panoptic if layout == "coco" else find_instance_maps)(self.root, split)

    def open(self, split: Split) -> PanopticDataset | InstanceMaps | PanopticScenes:
        """One part of it. A `DataError` says what is missing or broken."""
        if self.kind == "scenes" or self.kind == "scenes_sample":
            from ..scenes.dataset import open_scenes
            from ..scenes.panoptic import PanopticScenes

            number = self.num_scenes if split == "train" else self.num_val_scenes
            scenes = open_scenes(
                self.kind, split, num_scenes=number, root=self.root, seed=self.seed, image_size=self.scene_size
            )
            return PanopticScenes(scenes)
        folder = self.folder(split)
        return self._maps(folder, split) if isinstance(folder, InstanceMapFolders) else self._coco(folder, split)

    def _coco(self, folder: PanopticFolder, split: Split) -> PanopticDataset:
        from .dataset import PanopticDataset

        given = {"label_suffix": (self.label_suffix, None), "ignore_label": (self.ignore_label, IGNORED)}
        if other := [f"data.{name}={value!r}" for name, (value, usual) in given.items() if value != usual]:
            raise DataError(
                f"{' and '.join(other)} can be of label PNGs alone, and {folder.annotations_file} is COCO's panoptic "
                "JSON; leave it out"
            )
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

    def _maps(self, folders: InstanceMapFolders, split: Split) -> InstanceMaps:
        from .instance_maps import InstanceMaps

        def opened(folders: InstanceMapFolders, things: tuple[str, ...] | None) -> InstanceMaps:
            return InstanceMaps(
                folders,
                classes=self.classes,
                things=things,
                choice=self.choice,
                ignore_label=self.ignore_label,
                label_suffix=self.label_suffix,
                channels=self.channels,
                max_pixels=self.max_pixels,
                white_level=self.white_level,
            )

        things, learnt = self.things, self._training_maps()
        if things is None and learnt is not None and learnt != folders:
            things = opened(learnt, None).thing_names
        data = opened(folders, things)
        if not folders.hold_out:
            return data
        fix = "give the data set a folder of validation images"
        of, fraction = folders.images, self.val_fraction
        return data.select(part_of(len(data), split, of=of, val_fraction=fraction, seed=self.seed, fix=fix))

    def _training_maps(self) -> InstanceMapFolders | None:
        """Where the training part is, if it is anywhere."""
        if self.train is None and self.root is None:
            return None
        with suppress(NothingFoundError):
            found = self.folder("train")
            return found if isinstance(found, InstanceMapFolders) else None
        return None

    def read(self, folder: PanopticFolder, split: Split, path: Path) -> dict[str, Any]:
        """COCO's dictionary of a part: its classes chosen, and without what is held out of it."""
        from ..detection.selection import held_out
        from .selection import with_classes

        document = folder.read(path)
        if self.choice is not None:
            document = with_classes(document, self.choice, path, strict=self.classes is None)
        if folder.hold_out:
            document = held_out(document, split, path, val_fraction=self.val_fraction, seed=self.seed)
        return document
