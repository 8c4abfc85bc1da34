"""Which layout a person's folder of images with segments has, and where label and instance PNGs lie in it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import DataError, NothingFoundError
from ..held_out import PART_NAMES, Split
from ..segmentation.folders import SegmentationLayout, find_segmentation
from .folders import find_panoptic

PanopticLayout = Literal["coco", "instance_maps"]

INSTANCES = "instances"
THINGS_FILE = "things.txt"


@dataclass(frozen=True, kw_only=True)
class InstanceMapFolders:
    """One part, training or validation, of a data set of label and instance PNGs.

    Attributes:
        images: the folder of its images.
        labels: that of its label maps.
        instances: that of its instance maps.
        classes_file: names, and maybe colours, of the classes; None to look beside these folders.
        things_file: names of the classes of things; None to look there likewise.
        hold_out: whether the folders hold both parts, of which a share is set apart for validation.
    """

    images: Path
    labels: Path
    instances: Path
    classes_file: Path | None = None
    things_file: Path | None = None
    hold_out: bool = False


def find_instance_maps(root: str | os.PathLike[str], split: Split) -> InstanceMapFolders:
    """Looks for one part of a data set of label and instance PNGs.

    They lie as those of segmentation do, see `find_segmentation`, and instance maps in "instances" where these have
    "labels": root/images/train/, root/labels/train/ and root/instances/train/; root/train/images/ and so on; or
    root/images/, root/labels/ and root/instances/ for both parts.

    Raises:
        NothingFoundError: there are no such folders.
        DataError: one part has no instance maps, or is not there.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds images, label and instance maps")
    if not _has_instances(root):
        raise NothingFoundError(
            f"{root} has no {INSTANCES}/ with the numbers of objects as PNGs, beside images/ and labels/; add it"
        )
    layout = find_segmentation(root, split, "folder")
    instances = _instances(layout, root)
    if not instances.is_dir():
        raise DataError(f"{layout.labels} has no instance maps beside it; add {instances}")
    things = root / THINGS_FILE
    return InstanceMapFolders(
        images=layout.images,
        labels=layout.labels,
        instances=instances,
        classes_file=layout.classes_file,
        things_file=things if things.is_file() else None,
        hold_out=layout.hold_out,
    )


def recognised(root: str | os.PathLike[str]) -> PanopticLayout:
    """Which layout a folder has.

    Raises:
        NothingFoundError: none that is known.
        DataError: it could have both, or is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds images and their segments")
    could: list[PanopticLayout] = ["coco"] if _has_coco(root) else []
    could += ["instance_maps"] if _has_instances(root) else []
    if len(could) > 1:
        raise DataError(
            f"{root} can be read in several ways: {', '.join(could)}; say which with --data.kind "
            f"{' or --data.kind '.join(could)}"
        )
    if not could:
        objects = next(iter(sorted(root.glob("annotations/instances_*.json"))), None)
        hint = "" if objects is None else f"; {objects} is of objects, which may overlap: train a detector on it"
        raise NothingFoundError(
            f"{root} has no segments that are known: looked for annotations/panoptic_train*.json, "
            f"*panoptic_train*.json, gtFine/cityscapes_panoptic_train.json or panoptic.json (COCO's format), and for "
            f"{INSTANCES}/ beside images/ and labels/{hint}"
        )
    return could[0]


def _has_coco(root: Path) -> bool:
    """Whether a part is there, be it a broken one."""
    splits: tuple[Split, ...] = ("train", "val")
    for split in splits:
        with suppress(NothingFoundError):
            try:
                find_panoptic(root, split)
            except NothingFoundError:
                raise
            except DataError:
                return True
            return True
    return False


def _has_instances(root: Path) -> bool:
    parts = [name for split in ("train", "val") for name in PART_NAMES[split]]
    return any((root / name / INSTANCES).is_dir() for name in (".", *parts))


def _instances(layout: SegmentationLayout, root: Path) -> Path:
    """The folder of the label maps with "instances" for the name that label maps have."""
    parts = list(layout.labels.relative_to(root).parts)
    places = [place for place, name in enumerate(parts) if name in ("labels", "annotations", "masks")]
    if not places:
        raise DataError(
            f"{layout.labels} holds images and label maps together; move the label maps to {root / 'labels'}, beside "
            f"{INSTANCES}/"
        )
    parts[places[0]] = INSTANCES
    return root.joinpath(*parts)
