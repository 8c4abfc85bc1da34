"""COCO's annotation files: read, and checked so that a broken one says where."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...names import composed
from ..documents import read_json
from ..errors import DataError, report

_log = logging.getLogger(__name__)

_FAR = 10  # times the longer side of the image
_LARGEST = 1e30  # of numbers, of which products and sums are then finite as 32-bit floats too


def read_annotations(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads an annotation file and checks everything in it.

    Returns:
        COCO's dictionary: "images", "annotations", "categories" and what else the file has. Where an annotation lacks
        them, `iscrowd` is 0 and `area` that of its box. Of categories of one name, those without annotations are left
        out, which is logged.

    Raises:
        DataError: the file cannot be read, is no annotation file, or some of its entries are broken; the message
            names up to five of them.
    """
    path = Path(path)
    # Of any size: Objects365's has 1.6 GB.
    return check_document(read_json(path, "COCO's annotation file, a .json", largest=None), path)


def check_document(document: Any, path: Path) -> dict[str, Any]:
    """Checks COCO's dictionary as `read_annotations` does; `path` is what messages call it."""
    if isinstance(document, list):
        raise DataError(
            f"{path} holds a list, as a file of results does; an annotation file is an object with the keys "
            "'images', 'annotations' and 'categories'"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise DataError(
                f"{path} has no list {key!r}; a COCO annotation file has 'images', 'annotations' and 'categories'"
            )
    categories, images = document["categories"], document["images"]
    if not categories:
        raise DataError(f"{path} has no categories; list each class there with an id and a name")
    repeated: list[dict[str, Any]] = []
    has = [one.get("category_id") for one in document["annotations"] if isinstance(one, dict)]
    used = {number for number in has if isinstance(number, int | float)}
    report(path, "categories", collect(categories, "category", category_checker(used, repeated)))
    if repeated:
        named = ", ".join(f"{category['id']} ({category['name']})" for category in repeated)
        _log.warning("%s: categories left out, as no annotation has them and others have their names: %s", path, named)
        document["categories"] = [category for category in categories if category not in repeated]
    report(path, "images", collect(images, "image", image_checker()))
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    known = {category["id"] for category in document["categories"]}
    report(path, "annotations", collect(document["annotations"], "annotation", _annotation_checker(sizes, known)))
    for annotation in document["annotations"]:
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    return document


Checker = Callable[[dict[str, Any]], str | None]
"""It says what is wrong with one entry, or None."""


def collect(entries: list[Any], kind: str, check: Checker) -> Iterator[str]:
    """What a checker finds wrong with entries of a file, each with its name."""
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield f"{kind} number {index} is {entry!r:.60}, not an object"
            continue
        problem = check(entry)
        if problem is not None:
            name = f"{kind} {str(entry['id']):.60}" if "id" in entry else f"{kind} number {index}"
            name = f"{entry.get('where', name)!s:.200}"  # of formats without numbers
            yield f"{name}: {problem}"


def category_checker(used: set[float], repeated: list[dict[str, Any]]) -> Checker:
    """Of entries of "categories". Adds to `repeated` those of a name that is there already and that no annotation
    has.
    """
    ids: set[int] = set()
    names: dict[str, dict[str, Any]] = {}

    def check(category: dict[str, Any]) -> str | None:
        problem = check_id(category, ids)
        if problem is not None:
            return problem
        name = category.get("name")
        if not isinstance(name, str) or not name:
            return f"its name is {name!r:.60}, not a text"
        first = names.setdefault(composed(name), category)
        if first is not category:
            unused = next((one for one in (category, first) if one["id"] not in used), None)
            if unused is None:
                return f"category {first['id']} has the name {name!r} as well; names must differ"
            repeated.append(unused)
            names[composed(name)] = category if unused is first else first
        return None

    return check


def image_checker(*, texts: bool = False) -> Checker:
    """Of entries of "images", whose ids may be `texts`."""
    ids: set[Any] = set()

    def check(image: dict[str, Any]) -> str | None:
        problem = check_id(image, ids, texts=texts)
        if problem is not None:
            return problem
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            return f"its file_name is {image.get('file_name')!r:.60}, not a text"
        for side in ("width", "height"):
            if not is_whole(image.get(side)) or image[side] < 1:
                return f"its {side} is {image.get(side)!r:.60}, not a positive whole number of pixels"
        return None

    return check


def _annotation_checker(sizes: dict[int, tuple[int, int]], categories: set[int]) -> Checker:
    ids: set[int] = set()

    def check(annotation: dict[str, Any]) -> str | None:
        problem = check_id(annotation, ids)
        if problem is not None:
            return problem
        for key in ("image_id", "category_id", "bbox"):
            if key not in annotation:
                return f"it has no {key!r}"
        if not is_whole(annotation["image_id"]) or annotation["image_id"] not in sizes:
            return f"its image_id {annotation['image_id']!r:.60} is none of the file's images"
        if not is_whole(annotation["category_id"]) or annotation["category_id"] not in categories:
            return f"its category_id {annotation['category_id']!r:.60} is none of the file's categories"
        box = annotation["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not _are_finite(box):
            return f"its bbox is {box!r:.80}, not four finite numbers (x, y, width, height)"
        if annotation.get("iscrowd", 0) not in (0, 1):
            return f"its iscrowd is {annotation['iscrowd']!r:.60}, not 0 or 1"
        if not _are_finite([annotation.get("area", 0)]):
            return f"its area is {annotation['area']!r:.60}, not a finite number"
        # An absent one is no mistake: whether masks are needed is for the data set to say.
        shape = annotation.get("segmentation") or None
        return None if shape is None else _check_shape(shape, sizes[annotation["image_id"]])

    return check


def _check_shape(shape: Any, size: tuple[int, int]) -> str | None:
    if isinstance(shape, dict):
        return _check_run_lengths(shape, size)
    if not isinstance(shape, list):
        return f"its segmentation is {shape!r:.60}, neither a list of polygons nor run lengths"
    if not isinstance(shape[0], list):
        return "its segmentation is a list of numbers; a polygon stands in a list of polygons: [[x, y, x, y, ...]]"
    for polygon in shape:
        if not isinstance(polygon, list) or not _are_finite(polygon):
            return f"its polygon {polygon!r:.60} is not a list of finite numbers"
        if len(polygon) % 2:
            return f"its polygon has {len(polygon)} numbers, an odd count; x and y come in pairs"
        # COCO's code walks along every pixel of an edge, however far it leads.
        if polygon and max(max(polygon), -min(polygon)) > _FAR * max(size):
            return f"its polygon reaches {max(max(polygon), -min(polygon)):.0f} pixels, far beyond its image of {size}"
    return None


def _check_run_lengths(shape: dict[str, Any], size: tuple[int, int]) -> str | None:
    counts = shape.get("counts")
    if not isinstance(counts, str) and not (isinstance(counts, list) and all(is_whole(run) for run in counts)):
        return f"its run lengths have the counts {counts!r:.60}, neither a text nor a list of whole numbers"
    if shape.get("size") != list(size):
        return f"its run lengths have the size {shape.get('size')!r:.60}, and its image is {list(size)} (height, width)"
    return None


def check_id(entry: dict[str, Any], seen: set[Any], *, texts: bool = False) -> str | None:
    """Whether an entry's id is a whole number, or one of `texts`, that none of those seen has. It is added to them."""
    _make_whole(entry, "id", "image_id", "category_id", "width", "height", "iscrowd")
    if not is_whole(entry.get("id")) and not (texts and isinstance(entry.get("id"), str)):
        return f"its id is {entry.get('id')!r:.60}, not a whole number"
    if entry["id"] in seen:
        return "another one has the same id; number them anew"
    seen.add(entry["id"])
    return None


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64


def _make_whole(entry: dict[str, Any], *keys: str) -> None:
    """Some tools write ids and sizes as 3.0, which is a whole number too."""
    for key in keys:
        if isinstance(entry.get(key), float) and entry[key].is_integer():
            entry[key] = int(entry[key])


def _are_finite(numbers: list[Any]) -> bool:
    """Whether all are numbers, none of them infinite, not a number, or too large for 32-bit floats."""
    try:
        # One sum is many times faster than a look at each of a file's millions of coordinates.
        far = max(max(numbers, default=0), -min(numbers, default=0))
        return math.isfinite(sum(numbers)) and far <= _LARGEST
    except (TypeError, OverflowError):
        return False
