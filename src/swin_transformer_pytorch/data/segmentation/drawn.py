"""Label maps that are drawn: outlines of objects, from the files of detection, as the class of each pixel."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ... import rle
from ...colours import Colour
from ...labels import IGNORED
from ...names import by_name
from ..choice import ClassChoice, choose_classes
from ..detection.coco import CocoDataset
from ..detection.source import DetectionSource
from ..errors import DataError, NothingFoundError, some
from ..held_out import Split
from ..samples import SegmentationSample
from .classes import MAX_CLASSES
from .pairs import stem

BACKGROUND = "background"

_log = logging.getLogger(__name__)


class DrawnLabelMaps(Dataset[SegmentationSample]):
    """Images with objects as data of segmentation: each object's pixels are of its class, later ones over earlier.

    Pixels of no object are ignored, or of a class of their own. Crowds are ignored, and the boxes of objects without an
    outline, which are counted in the log.

    Args:
        source: where the images are, with the classes that their annotations have.
        split: which part.
        classes: a model's class names, in whose order labels count; None for the annotations' own.
        choice: which of the annotations' classes there are, and which become one; pixels of the others are ignored.
        background: whether pixels of no object are the class "background", the first; also where `classes` has it, and
            the annotations have not.

    Attributes:
        classes: class names by label.
        palette: None, as annotations have no colours.
        paths: the image file of each sample.
        image_sizes: pixels (height, width) of each.
        channels, white_level: how the images are read, see `CocoDataset`.
        names: of each: its path below the images' folder, without its ending.

    Raises:
        NothingFoundError: no object has an outline.
        DataError: something is missing or broken.
    """

    def __init__(
        self,
        source: DetectionSource,
        split: Split,
        *,
        classes: Sequence[str] | None = None,
        choice: ClassChoice | None = None,
        background: bool = False,
    ) -> None:
        folder = source.folder(split)
        self.objects = CocoDataset(
            folder.images_folder,
            folder.annotations_file,
            keep_empty=True,
            allow_outside=source.allow_outside,
            read=lambda path: _with_outlines(source.read(folder, split, path), path),
            channels=source.channels,
            max_pixels=source.max_pixels,
            white_level=source.white_level,
        )
        names = self.objects.classes
        self._of_rest = background or (BACKGROUND in (classes or ()) and BACKGROUND not in names)
        names = (BACKGROUND, *names) if self._of_rest else names
        chosen, places = choose_classes(names, choice, of=folder.annotations_file, strict=classes is None)
        self.classes = chosen if classes is None else tuple(classes)
        if len(self.classes) > MAX_CLASSES:
            raise DataError(f"{len(self.classes)} classes are too many for label maps of bytes: choose {MAX_CLASSES}")
        index_of = by_name({name: index for index, name in enumerate(self.classes)})
        found = [None if place is None else index_of(chosen[place]) for place in places]
        if left_out := [name for name, index in zip(names, found, strict=True) if index is None]:
            _log.warning(
                "%s: pixels of classes that are not asked for are ignored: %s", folder.annotations_file, some(left_out)
            )
        self._labels = np.array([IGNORED if index is None else index for index in found], dtype=np.uint8)
        self.palette: tuple[Colour, ...] | None = None
        self.paths, self.image_sizes = self.objects.paths, self.objects.image_sizes
        self.names = tuple(stem(str(path), folder.images_folder) for path in self.paths)

    def __len__(self) -> int:
        return len(self.objects)

    @property
    def channels(self) -> int | None:
        return self.objects.channels

    @channels.setter
    def channels(self, channels: int | None) -> None:
        self.objects.channels = channels

    @property
    def white_level(self) -> int | None:
        return self.objects.white_level

    @white_level.setter
    def white_level(self, white_level: int | None) -> None:
        self.objects.white_level = white_level

    def __getitem__(self, index: int) -> SegmentationSample:
        """Reads one image and draws its objects; an `ImageError` says why that cannot be done."""
        sample = self.objects[index]
        rest = self._labels[0] if self._of_rest else IGNORED
        labels = np.full(self.image_sizes[index], rest, dtype=np.uint8)
        for mask, label, crowd in zip(sample.masks, sample.labels + self._of_rest, sample.crowd, strict=True):
            labels[mask != 0] = IGNORED if crowd else self._labels[label]
        return SegmentationSample(image=sample.image, labels=labels, name=self.names[index])


def _with_outlines(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """COCO's dictionary in which objects without an outline are crowds of the shape of their boxes."""
    drawn: list[dict[str, Any]] = []
    for one in document["annotations"]:
        left, top, width, height = one["bbox"]
        right, bottom = left + width, top + height
        box = {"iscrowd": 1, "segmentation": [[left, top, right, top, right, bottom, left, bottom]]}
        drawn.append(one if rle.says_pixels(one.get("segmentation")) else one | box)
    alone = sum(one is not other for one, other in zip(drawn, document["annotations"], strict=True))
    if alone == len(drawn):
        raise NothingFoundError(f"{path} has no outlines of objects, which label maps are drawn of; annotate polygons")
    if alone:
        _log.warning(
            "%s: %s of %s objects have no outline: the pixels in their boxes are ignored",
            path,
            f"{alone:,}",
            f"{len(drawn):,}",
        )
    return document | {"annotations": drawn}
