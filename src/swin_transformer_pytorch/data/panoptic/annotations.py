"""COCO's panoptic annotation files: read, and checked so that a broken one says where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...colours import is_colour
from ..detection.annotations import Checker, category_checker, check_id, collect, image_checker, is_whole
from ..documents import read_json
from ..errors import DataError, report

_MOST_IDS = 1 << 24  # of three bytes


def read_panoptic(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads an annotation file of segments and checks everything in it.

    Returns:
        COCO's dictionary: "images", "annotations", an image each, with the "segments_info" of one, "categories", and
        what else the file has. Where a segment lacks it, `iscrowd` is 0. Ids of images may be texts.

    Raises:
        DataError: the file cannot be read, is no annotation file of segments, or some of its entries are broken; the
            message names up to five of them.
    """
    path = Path(path)
    document = read_json(path, "COCO's annotation file of segments, a .json", largest=None)
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise DataError(
                f"{path} has no list {key!r}; COCO's annotation file of segments has 'images', 'annotations' and "
                "'categories'"
            )
    if not document["categories"]:
        raise DataError(f"{path} has no categories; list each class there with an id, a name and isthing")
    if any(isinstance(one, dict) and "segments_info" not in one and "bbox" in one for one in document["annotations"]):
        raise DataError(
            f"{path} has annotations of objects (bbox) and not of segments (segments_info); give panoptic_*.json, or "
            "train a detector"
        )
    report(path, "categories", collect(document["categories"], "category", _category_checker(document["categories"])))
    report(path, "images", collect(document["images"], "image", image_checker(texts=True)))
    images = {image["id"] for image in document["images"]}
    categories = {category["id"] for category in document["categories"]}
    check = _annotation_checker(images, categories)
    report(path, "annotations", collect(document["annotations"], "annotation", check))
    for annotation in document["annotations"]:
        for segment in annotation["segments_info"]:
            segment.setdefault("iscrowd", 0)
    return document


def read_cityscapes(path: Path) -> dict[str, Any]:
    """What `read_panoptic` makes of the file that Cityscapes' own tool writes, with the images' names as they are in
    leftImg8bit/train/ and its like, CITY/ID_leftImg8bit.png; the tool writes others.
    """
    document = read_panoptic(path)
    for image in document["images"]:
        image["file_name"] = f"{str(image['id']).partition('_')[0]}/{image['id']}_leftImg8bit.png"
    return document


def _category_checker(categories: list[Any]) -> Checker:
    ids = (one.get("id") for one in categories if isinstance(one, dict))
    usual = category_checker({number for number in ids if isinstance(number, int | float)}, [])

    def check(category: dict[str, Any]) -> str | None:
        if (problem := usual(category)) is not None:
            return problem
        if category.get("isthing") not in (0, 1):
            return f"its isthing is {category.get('isthing')!r:.60}, not 1 (of things) or 0 (of stuff)"
        if category.get("color") is not None and not is_colour(category["color"]):
            return f"its color is {category['color']!r:.60}, not [red, green, blue] of 0 to 255"
        return None

    return check


def _annotation_checker(images: set[int | str], categories: set[int]) -> Checker:
    seen: dict[int | str, str] = {}

    def check(annotation: dict[str, Any]) -> str | None:
        number, name = annotation.get("image_id"), annotation.get("file_name")
        if not (is_whole(number) or isinstance(number, str)) or number not in images:
            return f"its image_id {number!r:.60} is none of the file's images"
        if not isinstance(name, str) or not name:
            return f"its file_name is {name!r:.60}, not a text"
        if number in seen:
            return f"image {number} has {seen[number]} and {name:.60}; each image has one PNG of segments"
        seen[number] = name
        segments = annotation.get("segments_info")
        if not isinstance(segments, list):
            return f"its segments_info is {segments!r:.60}, not a list"
        ids: set[int] = set()
        for place, segment in enumerate(segments):
            if problem := _problem(segment, ids, categories):
                known = isinstance(segment, dict) and "id" in segment
                which = f"segment {segment['id']!r:.60}" if known else f"segment number {place}"
                return f"{name:.100}, {which}: {problem}"
        return None

    return check


def _problem(segment: Any, seen: set[int], categories: set[int]) -> str | None:
    if not isinstance(segment, dict):
        return f"it is {segment!r:.60}, not an object"
    if (problem := check_id(segment, seen)) is not None:
        return problem
    if not 1 <= segment["id"] < _MOST_IDS:
        return f"ids are 1 to {_MOST_IDS - 1:,}, red + 256 green + 65,536 blue of the PNG's pixels"
    if "category_id" not in segment:
        return "it has no category_id; give it that of its class"
    if not is_whole(segment["category_id"]) or segment["category_id"] not in categories:
        return f"its category_id {segment['category_id']!r:.60} is none of the file's categories"
    if segment.get("iscrowd", 0) not in (0, 1):
        return f"its iscrowd is {segment['iscrowd']!r:.60}, not 0 or 1"
    return None
