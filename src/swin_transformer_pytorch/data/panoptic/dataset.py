"""Data sets of segments in COCO's panoptic format: a JSON, and a PNG of ids for each image."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32
from torch.utils.data import Dataset

from ...checks import plural
from ...colours import Colour
from ...names import by_name
from ...results.panoptic import colours_as_ids
from ..errors import DataError, ImageError, SampleError, report, some
from ..images.bands import read_pixels
from ..images.decode import open_image
from ..images.files import file_finder
from ..images.pixels import height_width
from ..samples import PanopticSample
from .annotations import read_panoptic

_log = logging.getLogger(__name__)


class PanopticDataset(Dataset[PanopticSample]):
    """Images with segments. Items are `PanopticSample`s.

    The whole JSON is checked at once, see `read_panoptic`, and that the files are there; the PNGs when they are read.
    Images without an annotation are left out, which is logged by count.

    Args:
        images_folder: file names of "images" are relative to it.
        annotations_file: COCO's JSON; ids of categories may be any whole numbers, those of images texts as well.
        segments_folder: the PNGs, whose pixels are ids of segments, red + 256 green + 65,536 blue; 0 is void.
        classes: class names in a model's order, to train or evaluate it; pixels of other categories are void. None: all
            categories, in the order of their ids.
        read: makes COCO's dictionary, checked, of `annotations_file`.
        channels: 3 for RGB, 1 for grey, or those of NPY files and TIFFs of bands; None for as many as each file has.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `read_image`.

    Attributes:
        classes: class names by label.
        things: the labels of those of things, as far as the categories say.
        palette: an RGB colour of each class, or None where some category has none.
        category_ids: of each class that is a category, by its name.
        image_ids: COCO's id of each item.
        paths: the image file of each item.
        segment_paths: its PNG.
        image_sizes: pixels (height, width) of each item, as the JSON says.
        annotations: COCO's dictionary.

    Raises:
        DataError: something is missing or broken; the message names the file and the entry.
    """

    def __init__(
        self,
        images_folder: str | os.PathLike[str],
        annotations_file: str | os.PathLike[str],
        segments_folder: str | os.PathLike[str],
        *,
        classes: Sequence[str] | None = None,
        read: Callable[[Path], dict[str, Any]] = read_panoptic,
        channels: int | None = 3,
        max_pixels: int | None = None,
        white_level: int | None = None,
    ) -> None:
        self.channels = channels
        self.max_pixels = max_pixels
        self.white_level = white_level
        self.annotations_file = Path(annotations_file)
        images_folder, segments_folder = Path(images_folder), Path(segments_folder)
        for folder in (images_folder, segments_folder):
            if not folder.is_dir():
                raise DataError(f"{folder} is not a folder; give the one that {self.annotations_file} speaks of")
        self.annotations = read(self.annotations_file)
        self._set_classes(classes)
        entries = {one["image_id"]: one for one in self.annotations["annotations"]}
        images = [image for image in self.annotations["images"] if image["id"] in entries]
        if not images:
            raise DataError(f"{self.annotations_file} has no image with an annotation; add one with its segments_info")
        if left_out := len(self.annotations["images"]) - len(images):
            _log.warning("%s: %s without an annotation left out", self.annotations_file, plural(left_out, "image"))
        self._segments: list[list[dict[str, Any]]] = [entries[image["id"]]["segments_info"] for image in images]
        self._tell_strangers()
        self.image_ids: list[int | str] = [image["id"] for image in images]
        self.image_sizes: list[tuple[int, int]] = [(image["height"], image["width"]) for image in images]
        self.paths = self._found(images_folder, images, "images")
        self.segment_paths = self._found(segments_folder, [entries[one] for one in self.image_ids], "annotations")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> PanopticSample:
        """Reads one image and its PNG.

        Raises:
            ImageError: the image cannot be read.
            SampleError: its PNG cannot, has another size or other ids than the JSON; or the image has another size.
        """
        image = read_pixels(self.paths[index], self.channels, max_pixels=self.max_pixels, white_level=self.white_level)
        ids = read_ids(self.segment_paths[index], max_pixels=self.max_pixels)
        size = height_width(image)
        for path, of, fix in (
            (self.segment_paths[index], ids.shape, "make them the same (cameras' rotation is applied to the image)"),
            (f"image {self.image_ids[index]} of {self.annotations_file}", self.image_sizes[index], "correct one"),
        ):
            if of != size:
                raise SampleError(
                    f"{self.paths[index]} has {size[1]} x {size[0]} pixels and {path} {of[1]} x {of[0]}; {fix}"
                )
        segments = self._segments[index]
        places = self._places(ids, segments, self.segment_paths[index])
        new, labels, crowd = self._numbered(segments)
        return PanopticSample(
            image=image,
            image_id=self.image_ids[index],
            segment_ids=new[places],
            labels=np.array(labels, dtype=np.int64),
            crowd=np.array(crowd, dtype=np.bool_),
        )

    def num_segments(self, index: int) -> int:
        """Segments of an image that are no crowds, as the JSON says."""
        return self._numbered(self._segments[index])[2].count(False)

    def class_counts(self) -> dict[str, int]:
        """Segments of each class, by its name."""
        counts = Counter(self._labels.get(one["category_id"]) for segments in self._segments for one in segments)
        return {name: counts[label] for label, name in enumerate(self.classes)}

    def _numbered(self, segments: Sequence[dict[str, Any]]) -> tuple[Int32[np.ndarray, " n"], list[int], list[bool]]:
        """The new id of each, void being the first; and classes and crowds by these, from 1.

        Segments of one class of stuff are one, as they are where several classes have become it.
        """
        new = np.zeros(len(segments) + 1, dtype=np.int32)
        labels: list[int] = []
        crowd: list[bool] = []
        of_stuff: dict[int, int] = {}
        for place, one in enumerate(segments, start=1):
            label = self._labels.get(one["category_id"])
            if label is None:
                continue
            is_crowd = one["iscrowd"] == 1
            joins = label not in self.things and not is_crowd
            if joins and label in of_stuff:
                new[place] = of_stuff[label]
                continue
            labels.append(label)
            crowd.append(is_crowd)
            new[place] = len(labels)
            if joins:
                of_stuff[label] = len(labels)
        return new, labels, crowd

    def _set_classes(self, classes: Sequence[str] | None) -> None:
        categories = sorted(self.annotations["categories"], key=lambda one: one["id"])
        self.classes = tuple(one["name"] for one in categories) if classes is None else tuple(classes)
        label_of = by_name({name: label for label, name in enumerate(self.classes)})
        known = [(label, one) for one in categories if (label := label_of(one["name"])) is not None]
        if not known:
            raise DataError(
                f"{self.annotations_file} has none of the classes asked for ({some(self.classes)}); its categories are "
                f"{some([one['name'] for one in categories])}"
            )
        self._labels = {one["id"]: label for label, one in known}
        self.things = tuple(sorted(label for label, one in known if one["isthing"] == 1))
        self.category_ids = {self.classes[label]: one["id"] for label, one in known}
        colours = {label: one["color"] for label, one in known if one.get("color") is not None}
        self.palette: tuple[Colour, ...] | None = None
        if len(colours) == len(self.classes):
            self.palette = tuple((red, green, blue) for _, (red, green, blue) in sorted(colours.items()))

    def _tell_strangers(self) -> None:
        """Logs which categories' segments are void, the most first, if there are any."""
        names = {one["id"]: one["name"] for one in self.annotations["categories"]}
        ids = (one["category_id"] for segments in self._segments for one in segments)
        left_out = Counter(names[number] for number in ids if number in names and number not in self._labels)
        if left_out:
            listed = some([f"{name} {count:,}" for name, count in left_out.most_common()])
            _log.warning(
                "%s: segments whose pixels are ignored, as the model has not their class: %s",
                self.annotations_file,
                listed,
            )

    def _found(self, folder: Path, entries: Sequence[dict[str, Any]], what: str) -> list[Path]:
        """The file of each entry."""
        find, paths, problems = file_finder(), list[Path](), list[str]()
        owners: dict[Path, int | str] = {}
        for entry, image_id in zip(entries, self.image_ids, strict=True):
            name = entry["file_name"].replace("\\", "/")
            if Path(name).is_absolute() or ".." in Path(name).parts:
                problems.append(f"image {image_id}: {entry['file_name']} leads out of {folder}")
            elif (path := find(folder / name) or find(folder / Path(name).name)) is None:
                problems.append(f"image {image_id}: there is no {entry['file_name']} in {folder}")
            elif path in owners:
                problems.append(f"images {owners[path]} and {image_id} read one file, {path}")
            else:
                owners[path] = image_id
                paths.append(path)
        report(self.annotations_file, what, problems)
        return paths

    def _places(
        self, ids: Int32[np.ndarray, "H W"], segments: Sequence[dict[str, Any]], path: Path
    ) -> Int32[np.ndarray, "H W"]:
        """For each pixel the place of its segment, from 1; 0 for void."""
        known = np.array([0, *(one["id"] for one in segments)], dtype=np.int32)
        order = np.argsort(known).astype(np.int32)
        ordered = known[order]
        ranks = np.searchsorted(ordered, ids).clip(max=len(known) - 1)
        strange = ordered[ranks] != ids
        if strange.any():
            y, x = (int(place) for place in np.unravel_index(strange.argmax(), strange.shape))
            raise SampleError(
                f"{path} has the id {ids[y, x]} at x={x}, y={y} ({plural(int(strange.sum()), 'such pixel')}), which "
                f"{self.annotations_file} does not name; add it to the segments_info, or make the pixels 0"
            )
        counts = np.bincount(ranks.ravel(), minlength=len(known))
        if missing := [
            str(number) for number, count in zip(ordered.tolist(), counts, strict=True) if number and not count
        ]:
            raise SampleError(
                f"{path} has no pixel of the ids {some(missing)} that {self.annotations_file} names; take them out "
                "of the segments_info, or export the PNG again"
            )
        return order[ranks]


def read_ids(path: Path, *, max_pixels: int | None = None) -> Int32[np.ndarray, "H W"]:
    """The ids of segments that a PNG's colours are, see `PanopticDataset`.

    Raises:
        SampleError: it is missing, damaged, or no PNG of 8 bits in RGB.
        ImageError: it has more than `max_pixels`, see `images.decode.open_image`.
    """
    try:
        with path.open("rb") as file, open_image(file, str(path), max_pixels=max_pixels) as image:
            kind, mode, wide = image.format, image.mode, ";16" in str(getattr(image, "tile", ""))
            pixels = np.array(image)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise SampleError(f"{path} does not exist; copy it there") from error
    except Exception as error:  # decoders raise nearly every kind on a damaged file
        raise SampleError(f"{path} is damaged or no image ({error}); copy it again") from error
    if kind != "PNG" or mode != "RGB" or wide:
        what = f"is a {kind} file" if kind != "PNG" else f"has pixels of mode {mode}{', of 16 bits' * wide}"
        raise SampleError(f"{path} {what}; ids of segments are a PNG's RGB pixels of 8 bits")
    return colours_as_ids(pixels)
