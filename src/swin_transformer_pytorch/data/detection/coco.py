"""Data sets of detection and instance segmentation in COCO's format."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ... import extras, rle
from ...checks import plural
from ...names import by_name
from ..errors import DataError, SampleError, report, some
from ..images.bands import read_pixels
from ..images.decode import is_turned, open_image
from ..images.files import file_finder
from ..images.pixels import height_width
from ..samples import DetectionSample
from .annotations import read_annotations
from .folders import CocoFolder, find_coco
from .selection import say_left_out

__all__ = ["CocoDataset", "CocoFolder", "DetectionSample", "find_coco", "read_annotations"]

_log = logging.getLogger(__name__)

# The official training passes over images with a shorter side than this.
_MIN_SIDE = 32


class CocoDataset(Dataset[DetectionSample]):
    """Images with boxes and masks from a COCO annotation file. Items are `DetectionSample`s.

    The whole file is checked at once, and that its images are there; see `read_annotations`. Objects are left out as
    in the official code: those marked "ignore", those outside their image, with a box of width or height below 1, or
    with an area of 0 or less. For training, so are images without any annotation and those with a side below 32
    pixels; an image with only crowds stays.

    Masks are what COCO's own code makes of polygons and run lengths. Of an annotation with several polygons, those of
    fewer than three points have no area and are passed over.

    Args:
        images_folder: file names in the annotations are relative to it; where one has folders that are not there,
            its last part is looked for.
        annotations_file: COCO's JSON; category and image ids may be any whole numbers.
        classes: class names in a model's order, to train or evaluate it; categories of other names are left out.
            None: all categories, in the order of their ids.
        stuff_folder: label maps, a PNG of each image's name: the semantic branch of HTC learns from them.
        keep_empty: whether to keep images without objects, and small ones: True for evaluation.
        keep_negatives: whether training keeps images without objects, which teach what is none.
        allow_outside: whether file names may be absolute or climb out of the folder with "..".
        read: makes COCO's dictionary, checked, of `annotations_file`; another for other formats.
        channels: 3 for RGB, 1 for grey, or those of NPY files and TIFFs of bands; None for as many as each file has.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `read_image`.
        box_masks: whether an annotation whose segmentation is absent, empty or of fewer than three points gets its box
            as mask, which is logged by count; False: it is an error.

    Attributes:
        classes: class names by index.
        image_ids: COCO's id of each item.
        boxes_alone: whether some objects have no mask.
        paths: the image file of each item.
        image_sizes: pixels (height, width) of each item, as the annotations say.
        annotations: COCO's dictionary, with all that the file has, for the evaluation.

    Raises:
        DataError: something is missing or broken; the message names the file and the annotation.
    """

    def __init__(
        self,
        images_folder: str | os.PathLike[str],
        annotations_file: str | os.PathLike[str],
        *,
        classes: Sequence[str] | None = None,
        stuff_folder: str | os.PathLike[str] | None = None,
        keep_empty: bool = False,
        keep_negatives: bool = False,
        box_masks: bool = False,
        allow_outside: bool = False,
        read: Callable[[Path], dict[str, Any]] = read_annotations,
        channels: int | None = 3,
        max_pixels: int | None = None,
        white_level: int | None = None,
    ) -> None:
        self.allow_outside = allow_outside
        self.channels = channels
        self.max_pixels = max_pixels
        self.white_level = white_level
        self.images_folder = Path(images_folder)
        self.annotations_file = Path(annotations_file)
        self.stuff_folder = None if stuff_folder is None else Path(stuff_folder)
        self.box_masks = box_masks
        for folder in (self.images_folder, self.stuff_folder):
            if folder is not None and not folder.is_dir():
                raise DataError(f"{folder} is not a folder; give the one that {self.annotations_file} speaks of")
        self.annotations = read(self.annotations_file)
        self.classes, self._labels = self._match_classes(classes)
        self.boxes_alone = False
        self._objects, left_out = self._objects_by_image()
        if not keep_empty:
            self._check_teaches(left_out)
        empty = [image["id"] for image in self.annotations["images"] if image["id"] not in self._objects]
        if empty and not keep_empty:
            what = "kept for training" if keep_negatives else "left out (--data.keep_empty true keeps them)"
            _log.warning("%s: %s without objects: %s", self.annotations_file, plural(len(empty), "image"), what)
        dropped = set() if keep_empty or keep_negatives else set(empty)
        self._images = [
            image
            for image in self.annotations["images"]
            if image["id"] not in dropped and (keep_empty or min(image["width"], image["height"]) >= _MIN_SIDE)
        ]
        if not self._images:
            total = len(self.annotations["images"])
            raise DataError(
                f"{self.annotations_file} leaves no image to use: none of its {total} has an annotation of "
                f"{', '.join(self.classes[:5])}{', ...' * (len(self.classes) > 5)}"
                f"{'' if keep_empty else f' and sides of at least {_MIN_SIDE} pixels'}"
            )
        self.paths = self._find_files()
        self._label_maps = self._find_label_maps()
        self.image_ids: list[int] = [image["id"] for image in self._images]
        self.image_sizes: list[tuple[int, int]] = [(image["height"], image["width"]) for image in self._images]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> DetectionSample:
        """Reads one image and makes its masks.

        Raises:
            ImageError: the image cannot be read.
            SampleError: it has another size than the annotations say, or run lengths are damaged.
        """
        image = read_pixels(self.paths[index], self.channels, max_pixels=self.max_pixels, white_level=self.white_level)
        height, width = size = self.image_sizes[index]
        if (found := height_width(image)) != size:
            turned = ""
            if found == (width, height):
                stored = is_turned(self.paths[index])
                why = (
                    "the annotations were made without its EXIF rotation" if stored else "width and height are swapped"
                )
                turned = f", turned: {why}"
            raise SampleError(
                f"{self.paths[index]} has {found[1]} x {found[0]} pixels{turned}; image "
                f"{self.image_ids[index]} of {self.annotations_file} has {width} x {height}; correct one of them"
            )
        objects = self._objects.get(self.image_ids[index], [])
        boxes = np.array([annotation["bbox"] for annotation in objects], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = np.zeros((len(objects), *size), dtype=np.uint8)
        for mask, annotation in zip(masks, objects, strict=True):
            mask[:] = self._mask(annotation, size)
        return DetectionSample(
            image=image,
            image_id=self.image_ids[index],
            boxes_xyxy=boxes.astype(np.float32),
            labels=np.array([self._labels[annotation["category_id"]] for annotation in objects], dtype=np.int64),
            masks=masks,
            crowd=np.array([annotation["iscrowd"] == 1 for annotation in objects], dtype=np.bool_),
            semantic=self._label_map(index) if self._label_maps else None,
        )

    def class_counts(self) -> dict[str, int]:
        """Objects of each class, by its name."""
        counts = Counter(self._labels[one["category_id"]] for of_image in self._objects.values() for one in of_image)
        return {name: counts[label] for label, name in enumerate(self.classes)}

    def num_objects(self, index: int) -> int:
        """Objects of an image, crowds among them where they are kept."""
        return len(self._objects.get(self.image_ids[index], []))

    def coco(self) -> dict[str, Any]:
        """All annotations as COCO's dictionary."""
        return self.annotations

    def _match_classes(self, classes: Sequence[str] | None) -> tuple[tuple[str, ...], dict[int, int]]:
        """Class names by index, and the index of each category id that has one."""
        names = {category["id"]: category["name"] for category in self.annotations["categories"]}
        if classes is None:
            ids = sorted(names)
            return tuple(names[number] for number in ids), {number: index for index, number in enumerate(ids)}
        index_of = by_name({name: index for index, name in enumerate(classes)})
        found = {number: index_of(name) for number, name in names.items()}
        labels = {number: index for number, index in found.items() if index is not None}
        if not labels:
            raise DataError(
                f"{self.annotations_file} has none of the classes asked for ({some(classes)}); its categories are "
                f"{some(list(names.values()))}"
            )
        return tuple(classes), labels

    def _objects_by_image(self) -> tuple[dict[int, list[dict[str, Any]]], Counter[str]]:
        """The annotations of each image that are of a wanted class, and how many were left out for which reason.

        An image without any such annotation is not in the dictionary.
        """
        sizes = {image["id"]: (image["height"], image["width"]) for image in self.annotations["images"]}
        found: dict[int, list[dict[str, Any]]] = {}
        left_out: Counter[str] = Counter()
        far: list[str] = []
        without_mask: list[str] = []
        names = {category["id"]: category["name"] for category in self.annotations["categories"]}
        ids = (annotation["category_id"] for annotation in self.annotations["annotations"])
        strangers = Counter(names[number] for number in ids if number not in self._labels)
        say_left_out(self.annotations_file, strangers, "the model")
        for annotation in self.annotations["annotations"]:
            if annotation["category_id"] not in self._labels:
                continue
            objects = found.setdefault(annotation["image_id"], [])
            if reason := _why_not(annotation, sizes[annotation["image_id"]]):
                left_out[reason] += 1
                continue
            objects.append(annotation)
            if _reaches_far(annotation["bbox"], sizes[annotation["image_id"]]):
                far.append(str(annotation["id"]))
            if not rle.says_pixels(shape := annotation.get("segmentation")):
                lack = "no polygon of three points" if shape else "no segmentation"
                without_mask.append(f"annotation {annotation['id']}: it has {lack}, and masks are learned too")
        if far:
            text = "%s: %s of %s boxes lie by more than half outside their image: annotations %s; correct them"
            total = sum(map(len, found.values()))
            _log.warning(text, self.annotations_file, f"{len(far):,}", f"{total:,}", some(far, 5))
        if not self.box_masks:
            fix = "annotations (box_masks=True, or --data.box_masks true, takes their boxes as masks)"
            report(self.annotations_file, fix, without_mask)
        elif without_mask:
            self.boxes_alone = True
            counts = f"{len(without_mask):,} of {sum(map(len, found.values())):,}"
            text = "%s: %s objects have no mask: their boxes stand for it, and by this file no masks are evaluated"
            _log.warning(text, self.annotations_file, counts)
        return found, left_out

    def _check_teaches(self, left_out: Counter[str]) -> None:
        """Says what is left out; a `DataError` where no object is left to learn."""
        objects = [annotation for of_image in self._objects.values() for annotation in of_image]
        crowds = sum(annotation["iscrowd"] == 1 for annotation in objects)
        counts = [f"{count:,} {reason}" for reason, count in left_out.items()]
        if len(objects) > crowds:
            if counts:
                _log.warning("%s: objects left out: %s", self.annotations_file, ", ".join(counts))
            return
        counts += [f"{crowds:,} marked iscrowd"] if crowds else []
        boxes = [annotation["bbox"] for annotation in self.annotations["annotations"]]
        hint = "correct them"
        if boxes and all(0 <= number <= 1 for box in boxes for number in box):
            hint = "all boxes lie within [0, 1]: COCO's are in pixels (x, y, width, height), so multiply them"
        if counts:
            raise DataError(f"{self.annotations_file} leaves no object to learn: {', '.join(counts)}; {hint}")

    def _find_files(self) -> list[Path]:
        """The path of each image."""
        find = file_finder()
        paths: list[Path] = []
        missing: list[str] = []
        outside: list[str] = []
        for image in self._images:
            name = image["file_name"].replace("\\", "/")
            if not self.allow_outside and (Path(name).is_absolute() or ".." in Path(name).parts):
                outside.append(f"image {image['id']}: {image['file_name']}")
                continue
            path = find(self.images_folder / name) or find(self.images_folder / Path(name).name)
            if path is None:
                missing.append(f"image {image['id']}: there is no {image['file_name']} in {self.images_folder}")
            else:
                paths.append(path)
        fix = "(allow_outside=True, or --data.allow_outside true, takes them)"
        report(self.annotations_file, f"file names, which lead out of the images' folder {fix}", outside)
        report(self.annotations_file, "images", missing)
        owners: dict[Path, list[str]] = {}
        for image, path in zip(self._images, paths, strict=True):
            owners.setdefault(path, []).append(f"{image['id']} ({image['file_name']})")
        shared = [f"images {' and '.join(ids)} read one file, {path}" for path, ids in owners.items() if len(ids) > 1]
        report(self.annotations_file, "images", shared)
        return paths

    def _mask(self, annotation: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
        if not rle.says_pixels(annotation.get("segmentation")):
            return _box_mask(annotation["bbox"], size)
        try:
            return segmentation_mask(annotation["segmentation"], size)
        except ValueError as error:
            raise SampleError(f"{self.annotations_file}: annotation {annotation['id']}: {error}") from error

    def _find_label_maps(self) -> list[Path]:
        """Of each image, empty without a folder of them; one that is not there is an error when it is read."""
        find, folder = file_finder(), self.stuff_folder
        wanted = [] if folder is None else [folder / f"{path.stem}.png" for path in self.paths]
        return [find(path) or path for path in wanted]

    def _label_map(self, index: int) -> UInt8[np.ndarray, "H W"]:
        path = self._label_maps[index]
        try:
            with path.open("rb") as file, open_image(file, str(path), max_pixels=self.max_pixels) as image:
                labels, mode = np.array(image), image.mode
        except FileNotFoundError as error:
            raise SampleError(
                f"{path} does not exist: image {self.image_ids[index]} has no label map of stuff"
            ) from error
        except Exception as error:  # decoders raise nearly every kind on a damaged file
            raise SampleError(f"{path} is damaged ({error}); copy it again") from error
        if mode not in ("L", "P"):
            raise SampleError(f"{path} is an image of mode {mode}; a label map is a grey or palette PNG of 8 bits")
        if labels.shape != self.image_sizes[index]:
            raise SampleError(f"{path} is {labels.shape} (height, width) and its image {self.image_sizes[index]}")
        return labels


def segmentation_mask(shape: list[list[float]] | dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of a checked "segmentation": polygons, or run lengths in either form.

    Raises:
        ValueError: run lengths are damaged.
        MissingExtraError: polygons need faster-coco-eval.
    """
    if isinstance(shape, dict):
        counts = shape["counts"]
        return rle.decode_mask(counts, size) if isinstance(counts, str) else rle.from_uncompressed(counts, size)
    masks = extras.require("faster_coco_eval.core.mask", extra="train")
    # Four numbers would be read as a box.
    polygons = [polygon for polygon in shape if len(polygon) >= 6]
    merged = masks.merge(masks.frPyObjects(polygons, *size))
    return rle.decode_mask(merged["counts"], size)


def _why_not(annotation: dict[str, Any], size: tuple[int, int]) -> str:
    """Why an object is left out, empty where it is not."""
    x, y, width, height = annotation["bbox"]
    reasons = {
        "marked ignore": annotation.get("ignore", False),
        "with a box below 1 pixel": width < 1 or height < 1,
        "outside their image": min(x + width, size[1]) <= max(x, 0) or min(y + height, size[0]) <= max(y, 0),
        "with an area of 0 or less": annotation["area"] <= 0,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _reaches_far(box: list[float], size: tuple[int, int]) -> bool:
    """Whether more than half of a box (x, y, width, height) lies outside its image of that (height, width)."""
    x, y, width, height = box
    across, down = min(x + width, size[1]) - max(x, 0), min(y + height, size[0]) - max(y, 0)
    return 2 * across * down < width * height


def _box_mask(box: list[float], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose middles lie in a box (x, y, width, height)."""
    x, y, width, height = box
    rows, columns = (np.arange(side) + 0.5 for side in size)
    return ((rows >= y) & (rows < y + height))[:, None] & ((columns >= x) & (columns < x + width))[None]
