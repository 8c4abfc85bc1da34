"""Data sets of semantic segmentation: a folder of images and one of label maps, ADE20K's among them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8
from torch.utils.data import Dataset

from ...colours import Colour
from ...labels import IGNORED
from ...weights.dense_classes import ade20k_palette, dense_class_names
from ..choice import ClassChoice, choose_classes
from ..errors import DataError, SampleError, some
from ..held_out import Split, part_of
from ..images.bands import read_pixels
from ..images.pixels import height_width
from ..samples import SegmentationSample
from ..scenes.dataset import SceneDataset
from .classes import MAX_CLASSES, SegmentationClasses, read_classes
from .folders import CLASS_FILES, find_segmentation
from .known import cityscapes_classes, cityscapes_values, voc_classes
from .label_maps import check_label_file, read_label_map
from .pairs import match, stem

# Looked at before training starts; the others when they are read.
_CHECKED_FIRST = 200
# Its photos have nine classes each, of 150; of a few photos, nearly always one beyond the 20 that are the most common.
_COMMON_IN_ADE20K, _CLASSES_OF_ADE20K = 20, 150
_KNOWN = {"voc": voc_classes, "cityscapes": cityscapes_classes}


class SegmentationFolder(Dataset[SegmentationSample]):
    """Images in one folder and their label maps in another, PNGs of the same names, in folders inside as well.

    See `label_maps.read_label_map` for what label maps may be.

    Args:
        images: the folder of images.
        labels: the folder of label maps. Those without an image are passed over.
        classes: the class names by label, at most 255, or a file of them (see `read_classes`). None: the file
            classes.txt or classes.json in the labels' or the images' folder, or in the folder around either.
        palette: an RGB colour of each class, for label maps in colours and for pictures; None: the classes file's.
        ignore_label: pixels of this value in the files are ignored, as those of 255 always are.
        reduce_zero_label: ADE20K's rule: 0 in the files is ignored, and the labels are their values minus one.
        values: the label that each of the 256 values in the files stands for; None for the values themselves.
        choice: which of the classes there are in the end, and which become one; pixels of the others are ignored.
        listed: the names of the images to take, without their endings; None for all.
        suffixes: what the names of images, and those of label maps, have at the end that the others have not, such as
            "_mask"; None for label maps of the images' names, or of these with one and the same ending.
        channels: 3 for RGB, 1 for grey, or those of NPY files and TIFFs of bands; None for as many as each file has.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `read_image`.

    Attributes:
        classes: class names by label.
        file_classes: those that the label maps have, by the values in them, before the choice.
        chosen: for each of these its index among `classes`, or None.
        palette: an RGB colour of each of `classes`, or None.
        pairs: (image path, label path) of each sample, sorted by image.
        names: of each sample: the image's path below its folder, without its ending.
        folder: that of the label maps.
        guess: what was guessed of the data, for the user to know; empty where nothing was.

    Raises:
        DataError: there are no images, one has no label map, two have one name, a label map is no PNG of 8 bits (of
            the first 200; others when they are read), or the classes are not known. The message names both files.
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        labels: str | os.PathLike[str],
        *,
        classes: Sequence[str] | str | os.PathLike[str] | None = None,
        palette: Sequence[Colour] | None = None,
        ignore_label: int = IGNORED,
        reduce_zero_label: bool = False,
        values: Sequence[int] | None = None,
        choice: ClassChoice | None = None,
        listed: Collection[str] | None = None,
        suffixes: tuple[str, str | None] = ("", None),
        channels: int | None = 3,
        max_pixels: int | None = None,
        white_level: int | None = None,
    ) -> None:
        if not 0 <= ignore_label <= 255:
            raise ValueError(f"ignore_label={ignore_label} is not possible: use a number from 0 to 255")
        self.folder = Path(labels)
        known = _classes(classes, Path(images), self.folder)
        self.file_classes = known.names
        self._colours = known.palette if palette is None else tuple(palette)
        if self._colours is not None and len(self._colours) != len(self.file_classes):
            raise ValueError(f"palette has {len(self._colours)} colours for {len(known.names)} classes; give one each")
        self.classes, self.chosen = choose_classes(self.file_classes, choice, of=self.folder)
        chosen = self.chosen
        self._chosen = np.full(IGNORED + 1, IGNORED, dtype=np.uint8)
        self._chosen[: len(chosen)] = [IGNORED if index is None else index for index in chosen]
        self.palette = self._colours and tuple(self._colours[chosen.index(index)] for index in range(len(self.classes)))
        left_out = [name for name, index in zip(self.file_classes, chosen, strict=True) if index is None]
        self.guess = f"pixels of classes that data.classes has not are ignored: {some(left_out)}" if left_out else ""
        self.ignore_label = ignore_label
        self.reduce_zero_label = reduce_zero_label
        self.channels = channels
        self.max_pixels = max_pixels
        self.white_level = white_level
        self._values = np.arange(IGNORED + 1, dtype=np.uint8) if values is None else np.array(values, dtype=np.uint8)
        self._values[ignore_label] = IGNORED
        self.pairs, ending = match(Path(images), self.folder, suffixes, listed)
        if suffixes[1] is None and ending:
            self.guess += "; " * bool(self.guess) + f"label maps have the images' names and {ending!r} at the end"
        self.names = tuple(stem(image, Path(images)) for image, _ in self.pairs)
        for image, label in self.pairs[:_CHECKED_FIRST]:
            with _naming(image):
                check_label_file(label)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> SegmentationSample:
        """Reads one pair.

        Raises:
            ImageError: the image cannot be read.
            SampleError: its label map cannot, or has another size or labels beyond the classes.
        """
        image_path, label_path = self.pairs[index]
        image = read_pixels(image_path, self.channels, max_pixels=self.max_pixels, white_level=self.white_level)
        labels = self.read_labels(index)
        height, width = height_width(image)
        if (height, width) != labels.shape:
            raise SampleError(
                f"{image_path} has {width} x {height} pixels and its label map {label_path} "
                f"{labels.shape[1]} x {labels.shape[0]}; make them the same (cameras' rotation is applied to the image)"
            )
        return SegmentationSample(image=image, labels=labels, name=self.names[index])

    def read_labels(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """Reads the label map of one pair, without its image.

        Raises:
            SampleError: it cannot be read, or has labels beyond the classes.
        """
        return self.choose(self.read_file_labels(index))

    def choose(self, labels: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
        """From labels by `file_classes` to those by `classes`."""
        return self._chosen[labels]

    def read_file_labels(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """Like `read_labels`, by `file_classes`, before the choice."""
        image_path, label_path = self.pairs[index]
        with _naming(image_path, SampleError):
            labels = self._mapped(read_label_map(label_path, self._colours, max_pixels=self.max_pixels))
        beyond = (labels >= len(self.file_classes)) & (labels != IGNORED)
        if beyond.any():
            y, x = (int(place) for place in np.argwhere(beyond)[0])
            value = int(labels[y, x]) + self.reduce_zero_label
            first = int(self.reduce_zero_label)
            raise SampleError(
                f"the label map {label_path} of {image_path} has the label {value} at x={x}, y={y}, and there are "
                f"{len(self.file_classes)} classes, {first} to {len(self.file_classes) - 1 + first} "
                f"(and {self.ignore_label} to ignore); correct it, or name all classes"
            )
        return labels

    @property
    def paths(self) -> list[str]:
        """The image file of each item."""
        return [image for image, _ in self.pairs]

    def select(self, indices: Sequence[int]) -> SegmentationFolder:
        """The same data set with these samples alone."""
        chosen = object.__new__(type(self))
        chosen.__dict__.update(self.__dict__)
        chosen.pairs = [self.pairs[index] for index in indices]
        chosen.names = tuple(self.names[index] for index in indices)
        return chosen

    def _mapped(self, labels: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
        labels = self._values[labels]
        if self.reduce_zero_label:
            labels = np.where((labels == 0) | (labels == IGNORED), np.uint8(IGNORED), labels - np.uint8(1))
        return labels


class SceneLabelMaps(Dataset[SegmentationSample]):
    """Scenes as a data set of segmentation, whose last class is the ground.

    Attributes:
        classes: class names by label.
        palette: an RGB colour of each.
        names: of each sample: its number.
    """

    def __init__(self, scenes: SceneDataset) -> None:
        self.scenes = scenes
        self.classes = scenes.semantic_classes
        self.palette: tuple[Colour, ...] | None = scenes.semantic_palette
        self.names = tuple(f"{index:06d}" for index in range(len(scenes)))

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> SegmentationSample:
        sample = self.scenes[index]
        assert sample.semantic is not None
        return SegmentationSample(image=sample.image, labels=sample.semantic, name=self.names[index])


def open_segmentation(
    root: str | os.PathLike[str],
    split: Split,
    *,
    classes: Sequence[str] | str | os.PathLike[str] | None = None,
    ignore_label: int = IGNORED,
    val_fraction: float = 0.2,
    seed: int = 0,
    channels: int | None = 3,
    max_pixels: int | None = None,
    white_level: int | None = None,
    kind: str | None = None,
    choice: ClassChoice | None = None,
    label_suffix: str | None = None,
) -> SegmentationFolder:
    """One part of a data set of segmentation in any layout that `find_segmentation` knows.

    Args:
        root: the folder.
        split: "train" or "val".
        classes: names or a file of them; None for the classes file in `root`, or ADE20K's own.
        ignore_label: see `SegmentationFolder`.
        val_fraction: the share that is set apart where there is no validation folder; at least one image.
        seed: of that choice, which depends on the number of images alone.
        channels, max_pixels, white_level: see `SegmentationFolder`.
        kind: "ade20k", "voc" or "cityscapes" where it is known to be that, "folder" where it is neither of the latter;
            None: see `find_segmentation`. It is taken for ADE20K where its folders are called so and no classes are
            known, unless its label maps contradict that.
        choice: see `SegmentationFolder`.
        label_suffix: what the names of label maps have at the end that those of images have not; None to look.

    Raises:
        DataError: see `find_segmentation` and `SegmentationFolder`; or what is or was taken for ADE20K is none.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction={val_fraction} is not possible: use a number in [0, 1)")
    ade20k = kind == "ade20k"
    layout = find_segmentation(root, split, cast(Any, "folder" if ade20k else kind))
    if ade20k and layout.classes_file is not None:
        raise DataError(
            f"{layout.classes_file} has classes, and ADE20K's are known: use --data.kind folder for label maps of "
            "the file's classes, or remove it"
        )
    if ade20k or (layout.ade20k and classes is None):
        data = ade20k_folder(
            layout.images,
            layout.labels,
            ignore_label=ignore_label,
            choice=choice,
            channels=channels,
            max_pixels=max_pixels,
            white_level=white_level,
        )
    else:
        known = _KNOWN[layout.known]() if layout.known and classes is None else None
        data = SegmentationFolder(
            layout.images,
            layout.labels,
            classes=known.names if known else classes or layout.classes_file,
            palette=known.palette if known else None,
            ignore_label=ignore_label,
            values=cityscapes_values() if layout.suffixes[1] == "_gtFine_labelIds" else None,
            choice=choice,
            listed=layout.listed,
            suffixes=layout.suffixes if label_suffix is None else ("", label_suffix),
            channels=channels,
            max_pixels=max_pixels,
            white_level=white_level,
        )
        if layout.known and kind is None:
            data.guess = f"{root}: taken for {layout.known}, as its folders are called. {data.guess}".strip()
    if data.reduce_zero_label and not ade20k:
        _check_ade20k(data, Path(root))
        data.guess = (
            f"{root}: taken for ADE20K, as its folders are called: 150 classes, and 0 in the label maps is ignored; "
            f"--data.kind ade20k says that it is, and {CLASS_FILES[0]} in there that the data is your own"
        )
    if not layout.hold_out:
        return data
    fix = "give the data set a folder of validation images"
    return data.select(part_of(len(data), split, of=layout.images, val_fraction=val_fraction, seed=seed, fix=fix))


def ade20k_folder(
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    ignore_label: int = IGNORED,
    choice: ClassChoice | None = None,
    channels: int | None = 3,
    max_pixels: int | None = None,
    white_level: int | None = None,
) -> SegmentationFolder:
    """A part of ADE20K (SceneParse150): its 150 classes and colours; 0 in its label maps is "other" and ignored."""
    return SegmentationFolder(
        images,
        labels,
        classes=dense_class_names("ade20k"),
        palette=ade20k_palette(),
        ignore_label=ignore_label,
        reduce_zero_label=True,
        choice=choice,
        channels=channels,
        max_pixels=max_pixels,
        white_level=white_level,
    )


def _check_ade20k(data: SegmentationFolder, root: Path) -> None:
    """Raises a `DataError` where label maps that were taken for ADE20K's hold other labels than these."""
    highest, read = 0, 0
    for _, path in data.pairs[:_CHECKED_FIRST]:
        try:
            labels = read_label_map(path, data._colours, max_pixels=data.max_pixels)
        except DataError:
            continue  # it is named when it is used
        read += 1
        counted = labels[(labels != IGNORED) & (labels != data.ignore_label)]
        highest = max(highest, int(counted.max(initial=0)))
        if highest > _COMMON_IN_ADE20K:
            break
    if read and not _COMMON_IN_ADE20K < highest <= _CLASSES_OF_ADE20K:
        raise DataError(
            f"{data.folder} was taken for ADE20K's, as the folders are called, and the highest label of the {read} "
            f"label maps looked at is {highest}, where ADE20K's go up to {_CLASSES_OF_ADE20K}; if the data is your "
            f"own, name its classes in {root / CLASS_FILES[0]}; if it is a part of ADE20K, use --data.kind ade20k"
        )


def file_beside(images: Path, labels: Path, names: Sequence[str]) -> Path | None:
    """The first file of these names in the folder of the label maps, that of the images, or the one around either."""
    folders = dict.fromkeys((labels, images, labels.parent, images.parent))
    return next((path for folder in folders for name in names if (path := folder / name).is_file()), None)


def _classes(given: Sequence[str] | str | os.PathLike[str] | None, images: Path, labels: Path) -> SegmentationClasses:
    if isinstance(given, str | os.PathLike):
        return read_classes(given)
    if given is not None:
        names = tuple(given)
        if not 1 <= len(names) <= MAX_CLASSES:
            raise DataError(f"{len(names)} classes are not possible for label maps of bytes: use 1 to {MAX_CLASSES}")
        return SegmentationClasses(names=names)
    if path := file_beside(images, labels, CLASS_FILES):
        return read_classes(path)
    raise DataError(
        f"the classes of the label maps in {labels} are not known; write their names, one a line, into "
        f"{labels.parent / CLASS_FILES[0]}, or give classes"
    )


@contextmanager
def _naming(image: str, kind: type[DataError] = DataError) -> Iterator[None]:
    """Puts the image before what is wrong with its label map, as the two are looked at, and corrected, together."""
    try:
        yield
    except DataError as error:
        raise kind(f"{image}: {error}") from error
