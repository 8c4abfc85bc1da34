"""CVAT's XML for images, version 1.1: one file for all."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ... import rle
from ..documents import head, read_xml
from ..errors import DataError
from ..held_out import part_name
from ..images.places import Images
from .folders import CocoFolder, Parts
from .records import Records, blank_mask, ellipse, extent, rectangle

_WHAT = "CVAT's annotations.xml"


def cvat_parts(root: Path) -> Parts:
    """The parts of a data set of "CVAT for images 1.1": annotations.xml, with images anywhere below the root.

    A project's subsets, Train and Validation, are the parts; those of other names count as training.
    """
    found = [path for path in sorted(root.glob("*.xml")) if "<annotations" in head(path)]
    if len(found) > 1:
        raise DataError(f"{root} has several files of CVAT: {', '.join(path.name for path in found)}; keep one there")
    if not found:
        return {}
    subsets = dict.fromkeys(image.get("subset") for image in read_xml(found[0], _WHAT).iterfind("image"))
    parts: dict[str, list[str | None]] = {}
    for subset in subsets:
        parts.setdefault(part_name(subset or ""), []).append(subset)
    if "all" in parts and len(parts) > 1:
        parts.setdefault("train", []).extend(parts.pop("all"))
    return {
        part: CocoFolder(
            images_folder=root, annotations_file=found[0], read=partial(_read, root=root, subsets=tuple(names))
        )
        for part, names in (parts or {"all": [None]}).items()
    }


def _read(path: Path, *, root: Path, subsets: tuple[str | None, ...]) -> dict[str, Any]:
    tree = read_xml(path, _WHAT)
    if tree.find("track") is not None:
        raise DataError(f'{path} is "CVAT for video", with tracks; export "CVAT for images 1.1"')
    names = [label.text for label in tree.iterfind("meta//labels/label/name") if label.text]
    records, images = Records(path, list(dict.fromkeys(names)) or None), Images(root)
    for image in tree.iterfind("image"):
        if image.get("subset") not in subsets:
            continue
        given = image.get("name", "")
        with records.naming(f"{path} image {given!r:.100}"):
            size = int(image.attrib["height"]), int(image.attrib["width"])
            near = root / "images" / (image.get("subset") or "")
            records.add_image(images.find(given, near), size)
            for number, one in enumerate(sorted(image, key=lambda one: int(one.get("z_order", 0)))):
                where = f"{path} image {given!r:.100} {one.tag} {number}"
                with records.naming(where):
                    _add(records, one, where, size)
    return records.document()


def _add(records: Records, one: ElementTree.Element, where: str, size: tuple[int, int]) -> None:
    name = one.attrib["label"]
    if records.names is not None and name not in records.names:
        raise ValueError(f"its label {name!r:.60} is none of the file's {', '.join(records.names):.200}")
    degrees = float(one.get("rotation", 0))
    if one.tag == "box":
        left, top, right, bottom = (float(one.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
        if degrees:
            records.notes["boxes that are turned: the upright box around each counts"] += 1
        turned = rectangle(left, top, right - left, bottom - top, degrees, ((left + right) / 2, (top + bottom) / 2))
        records.add_object(name, where, corners=extent(turned) if degrees else (left, top, right, bottom))
    elif one.tag == "polygon":
        pairs = [pair.split(",") for pair in one.attrib["points"].split(";")]
        records.add_object(name, where, polygons=[[(float(x), float(y)) for x, y in pairs]])
    elif one.tag == "ellipse":
        cx, cy, rx, ry = (float(one.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        records.add_object(name, where, polygons=[ellipse((cx, cy), (rx, ry), degrees)])
    elif one.tag == "mask":
        records.add_object(name, where, mask=_mask(one.attrib, size))
    else:
        records.notes[f"annotations of the type {one.tag!r:.30} left out"] += 1


def _mask(values: dict[str, str], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Run lengths along the rows of a part of the image."""
    left, top, width, height = (int(float(values[key])) for key in ("left", "top", "width", "height"))
    if min(left, top, width, height) < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError("its mask reaches beyond the image")
    whole = blank_mask(size)
    runs = [int(run) for run in values["rle"].split(",")]
    whole[top : top + height, left : left + width] = rle.from_uncompressed(runs, (width, height)).T
    return whole
