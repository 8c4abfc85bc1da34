"""Data sets of segments as two PNGs an image: the class of each pixel, and the number of its object."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8
from torch.utils.data import Dataset

from ...checks import plural
from ...colours import Colour
from ...labels import IGNORED
from ...names import by_name, did_you_mean
from ..choice import ClassChoice
from ..documents import read_lines
from ..errors import DataError, ImageError, SampleError, some
from ..samples import PanopticSample
from ..segmentation.dataset import SegmentationFolder, file_beside
from ..segmentation.folders import CLASS_FILES
from ..segmentation.label_maps import read_numbers
from ..segmentation.pairs import match
from .layouts import THINGS_FILE, InstanceMapFolders

_READERS = 4  # threads; decoding leaves Python's lock
_VOID = -1

_log = logging.getLogger(__name__)


class InstanceMaps(Dataset[PanopticSample]):
    """Images with a label map and an instance map each, PNGs of the images' names. Items are `PanopticSample`s.

    Label maps are those of segmentation, see `SegmentationFolder`. An instance map has for each pixel the number of its
    object in that image, in 8 or 16 bits, and 0 where it belongs to none. Classes of things have objects; all pixels of
    another class in an image are one segment, whatever their numbers. Pixels of a thing without a number are a crowd of
    their class, which training leaves out and evaluation ignores.

    Which classes are things is said by a file things.txt, their names, one a line; else they are those that have an
    object in some map, for which all maps are read once.

    Args:
        folders: where they are.
        classes: a model's class names in its order; pixels of other classes are void. None: the label maps' own. Where
            no file names those, they are the label maps' own as well.
        things: which of the classes are things; None for things.txt or the maps.
        choice: see `SegmentationFolder`.
        ignore_label: see `SegmentationFolder`; these pixels are void.
        label_suffix: what the names of label maps have at the end that those of images have not; None to look.
        channels, max_pixels, white_level: see `SegmentationFolder`.

    Attributes:
        classes: class names by label.
        things: the labels of those of things.
        palette: an RGB colour of each class, or None.
        paths: the image file of each item.
        image_ids: of each: the image's path below its folder, without its ending.
        maps: images and label maps alone.
        guess: what was guessed of the data, for the user to know; empty where nothing was.

    Raises:
        DataError: an image lacks a map, the classes are not known, or a thing is no class; see `SegmentationFolder`.
    """

    def __init__(
        self,
        folders: InstanceMapFolders,
        *,
        classes: Sequence[str] | None = None,
        things: Sequence[str] | None = None,
        choice: ClassChoice | None = None,
        ignore_label: int = IGNORED,
        label_suffix: str | None = None,
        channels: int | None = 3,
        max_pixels: int | None = None,
        white_level: int | None = None,
    ) -> None:
        self.folders = folders
        self.maps = SegmentationFolder(
            folders.images,
            folders.labels,
            classes=_names(folders, classes),
            ignore_label=ignore_label,
            choice=choice,
            suffixes=("", label_suffix),
            channels=channels,
            max_pixels=max_pixels,
            white_level=white_level,
        )
        pairs, _ = match(folders.images, folders.instances, ("", None), None, "instance map")
        instances = dict(pairs)
        self._instances = [instances[image] for image, _ in self.maps.pairs]
        self.guess = self.maps.guess
        self.classes = self.maps.classes if classes is None else tuple(classes)
        label_of = by_name({name: label for label, name in enumerate(self.classes)})
        labels = [label_of(name) for name in self.maps.classes]
        if not any(label is not None for label in labels):
            raise DataError(
                f"{folders.labels} has none of the classes asked for ({some(self.classes)}); its classes are "
                f"{some(self.maps.classes)}"
            )
        if strangers := [name for name, label in zip(self.maps.classes, labels, strict=True) if label is None]:
            ignored = f"pixels of classes that the model has not are ignored: {some(strangers)}"
            self.guess = f"{self.guess}; {ignored}".removeprefix("; ")
        self._label_of = np.full(IGNORED + 1, _VOID, dtype=np.int64)
        self._label_of[: len(labels)] = [_VOID if label is None else label for label in labels]
        colours = self.maps.palette if labels == [*range(len(self.classes))] else None
        self.palette: tuple[Colour, ...] | None = colours
        self.things = self._things(things)

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int) -> PanopticSample:
        """Reads one image and its maps.

        Raises:
            ImageError: the image cannot be read.
            SampleError: one of its maps cannot, or has another size, or labels beyond the classes; or an object is of
                two classes.
        """
        sample = self.maps[index]
        numbers, counts = self._counted(index, sample.labels)
        segment, labels, crowd = self._numbered(counts)
        return PanopticSample(
            image=sample.image,
            image_id=sample.name,
            segment_ids=segment[numbers, sample.labels],
            labels=np.array(labels, dtype=np.int64),
            crowd=np.array(crowd, dtype=np.bool_),
        )

    def num_segments(self, index: int) -> int:
        """Segments of an image that are no crowds, without reading it.

        Raises:
            SampleError: see `__getitem__`.
        """
        _, counts = self._counted(index, self.maps.read_labels(index))
        return self._numbered(counts)[2].count(False)

    @property
    def paths(self) -> list[str]:
        """The image file of each item."""
        return self.maps.paths

    @property
    def image_ids(self) -> list[str]:
        """The name of each item."""
        return list(self.maps.names)

    @property
    def channels(self) -> int | None:
        return self.maps.channels

    @channels.setter
    def channels(self, channels: int | None) -> None:
        self.maps.channels = channels

    @property
    def white_level(self) -> int | None:
        return self.maps.white_level

    @white_level.setter
    def white_level(self, white_level: int | None) -> None:
        self.maps.white_level = white_level

    @property
    def thing_names(self) -> tuple[str, ...]:
        """The names of the classes of things."""
        return tuple(self.classes[label] for label in self.things)

    def select(self, indices: Sequence[int]) -> InstanceMaps:
        """The same data set with these samples alone."""
        chosen = object.__new__(type(self))
        chosen.__dict__.update(self.__dict__)
        chosen.maps = self.maps.select(indices)
        chosen._instances = [self._instances[index] for index in indices]
        return chosen

    def _counted(
        self, index: int, labels: UInt8[np.ndarray, "H W"]
    ) -> tuple[Int32[np.ndarray, "H W"], Int64[np.ndarray, "n 256"]]:
        """Each pixel's place among the numbers that there are, 0 being the first, and the pixels of each and class."""
        image, path = self.maps.paths[index], self._instances[index]
        try:
            numbers = read_numbers(path, max_pixels=self.maps.max_pixels)
        except DataError as error:
            raise SampleError(f"{image}: {error}") from error
        if numbers.shape != labels.shape:
            raise SampleError(
                f"{image} has {labels.shape[1]} x {labels.shape[0]} pixels and its instance map {path} "
                f"{numbers.shape[1]} x {numbers.shape[0]}; make them the same (cameras' rotation is applied to the "
                "image)"
            )
        known = np.flatnonzero(np.bincount(numbers.ravel(), minlength=1) > 0)
        known = known if known[0] == 0 else np.append(0, known)
        place_of = np.zeros(int(known[-1]) + 1, dtype=np.int32)
        place_of[known] = np.arange(len(known))
        places = place_of[numbers]
        cells = places.astype(np.int64) * (IGNORED + 1) + labels
        counts = np.bincount(cells.ravel(), minlength=len(known) * (IGNORED + 1)).reshape(-1, IGNORED + 1)
        self._check_one_class(known, counts, index)
        return places, counts

    def _numbered(self, counts: Int64[np.ndarray, "n 256"]) -> tuple[Int32[np.ndarray, "n 256"], list[int], list[bool]]:
        """The segment of each cell, void being 0, and classes and crowds by these, from 1.

        Each cell is one, but that a class of stuff has one, whatever the numbers.
        """
        segment = np.zeros(counts.shape, dtype=np.int32)
        labels: list[int] = []
        crowd: list[bool] = []
        of_stuff: dict[int, int] = {}
        for place, column in np.argwhere(counts > 0).tolist():
            label = int(self._label_of[column])
            if label == _VOID:
                continue
            is_thing = label in self.things
            if is_thing or label not in of_stuff:
                labels.append(label)
                crowd.append(is_thing and place == 0)
                of_stuff[label] = len(labels)
            segment[place, column] = len(labels) if is_thing else of_stuff[label]
        return segment, labels, crowd

    def _check_one_class(self, known: Int64[np.ndarray, " n"], counts: Int64[np.ndarray, "n 256"], index: int) -> None:
        there = counts[1:, :IGNORED] > 0
        several = np.flatnonzero(there.sum(axis=1) > 1)
        if not several.size:
            return
        first = int(several[0])
        classes = [
            f"{self.maps.classes[label]} ({plural(int(counts[first + 1, label]), 'pixel')})"
            for label in np.flatnonzero(there[first]).tolist()
        ]
        raise SampleError(
            f"{self.maps.paths[index]}: the object {known[first + 1]} of the instance map {self._instances[index]} is "
            f"of several classes in its label map: {some(classes)}; give each object a number of its own in the image, "
            "or correct the labels"
        )

    def _things(self, given: Sequence[str] | None) -> tuple[int, ...]:
        if given is not None:
            return tuple(sorted(_places(given, self.classes, "things")))
        file = self.folders.things_file or file_beside(self.folders.images, self.folders.labels, (THINGS_FILE,))
        if file is None:
            things, stuff = self._with_objects()
            are_things = self._chosen_things(things, stuff, f"the maps in {self.folders.instances}")
            names = [name for name, is_thing in zip(self.maps.classes, are_things.tolist(), strict=True) if is_thing]
            text = "%s: things are %s; all other classes are stuff"
            _log.warning(text, self.folders.instances, some(names) if names else "none of the chosen classes")
        else:
            names = [line for line in read_lines(file, "names of classes, one a line") if not line.startswith("#")]
            things = {*_places(names, self.maps.file_classes, str(file))}
            are_things = self._chosen_things(things, {*range(len(self.maps.file_classes))} - things, str(file))
        labels = self._label_of[: len(are_things)][are_things]
        return tuple(sorted(labels[labels != _VOID].tolist()))

    def _chosen_things(self, things: set[int], stuff: set[int], source: str) -> Bool[np.ndarray, " n"]:
        """Which classes are things where these of the files' classes are; those that are neither go with either."""
        are_things = np.zeros(len(self.maps.classes), dtype=np.bool_)
        for index in range(len(are_things)):
            merged = {place for place, one in enumerate(self.maps.chosen) if one == index}
            are_things[index] = bool(merged & things)
            if merged & things and merged & stuff:
                kinds = [
                    f"{self.maps.file_classes[place]} ({'thing' if place in things else 'stuff'})"
                    for place in sorted(merged & (things | stuff))
                ]
                raise DataError(
                    f"data.classes makes {self.maps.classes[index]!r:.60} of things and of stuff ({some(kinds)}), as "
                    f"{source} has them; merge either kind by itself, or correct {THINGS_FILE}"
                )
        return are_things

    def _with_objects(self) -> tuple[set[int], set[int]]:
        """Which of the files' classes have an object in some map, and which have pixels alone.

        Maps that cannot be used are named when they are read.
        """
        _log.warning(
            "%s: %s read for which classes have objects; a file %s with the names of these saves that",
            self.folders.instances,
            plural(len(self), "map"),
            THINGS_FILE,
        )
        counts = np.zeros((2, IGNORED + 1), dtype=np.int64)
        problem: DataError | ImageError | None = None
        with ThreadPoolExecutor(_READERS) as readers:
            for one in readers.map(self._pixels_of_classes, range(len(self))):
                if isinstance(one, DataError | ImageError):
                    problem = problem or one
                else:
                    counts += one
        there, with_objects = ({*np.flatnonzero(row[:IGNORED]).tolist()} for row in counts)
        if not with_objects:
            if problem is not None:
                raise problem
            raise DataError(
                f"{self.folders.instances} has no object: all of its numbers are 0, or their pixels have no class; "
                "number the objects of each image from 1, or train on images and labels alone (segmentation)"
            )
        return with_objects, there - with_objects

    def _pixels_of_classes(self, index: int) -> Int64[np.ndarray, "2 256"] | DataError | ImageError:
        """Of each of the files' classes the pixels in one map, and those that are of an object."""
        try:
            labels = self.maps.read_file_labels(index)
            places, _ = self._counted(index, self.maps.choose(labels))
        except (DataError, ImageError) as error:
            return error
        return np.stack([np.bincount(these, minlength=IGNORED + 1) for these in (labels.ravel(), labels[places > 0])])


def _names(folders: InstanceMapFolders, classes: Sequence[str] | None) -> Sequence[str] | str | os.PathLike[str] | None:
    """The label maps' own classes, or where no file says them, the model's."""
    if folders.classes_file is not None:
        return folders.classes_file
    return None if file_beside(folders.images, folders.labels, CLASS_FILES) else classes


def _places(names: Sequence[str], classes: Sequence[str], where: str) -> list[int]:
    place_of = by_name({name: place for place, name in enumerate(classes)})
    found = {name: place_of(name) for name in names}
    if strangers := [name for name, place in found.items() if place is None]:
        near = did_you_mean(strangers[0], classes)
        raise DataError(f"{where}: {strangers[0]!r:.60} is no class; {near}the classes are {some(classes)}")
    return [place for place in found.values() if place is not None]
