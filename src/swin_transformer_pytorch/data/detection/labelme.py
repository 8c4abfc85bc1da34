"""Labelme's JSON files, one an image."""

from __future__ import annotations

import base64
import io
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..documents import head, read_json
from ..held_out import part_name
from ..images.places import Images
from .folders import CocoFolder, Parts
from .records import Point, Records, blank_mask, ellipse, extent, read_pixels

_FOLDERS = ("annotations", "labels", "json", "jsons")


def labelme_parts(root: Path) -> Parts:
    """The parts of a data set of labelme: JSON files beside their images or in a folder of their own, in one folder or
    in one for each part.
    """
    inside = [root, *(root / name for name in _FOLDERS if (root / name).is_dir())]
    folders = [path for place in inside for path in sorted(place.iterdir()) if path.is_dir()]
    parts = [(part_name(path.name), deeper) for path in folders for deeper in (path, *(path / one for one in _FOLDERS))]
    found = {part: _part(root, path) for part, path in parts if part != "all" and _files(path)}
    return found or next(({"all": _part(root, path)} for path in inside if _files(path)), {})


def _part(root: Path, folder: Path) -> CocoFolder:
    return CocoFolder(images_folder=root, annotations_file=folder, read=partial(_read, root=root))


def _files(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    # Others, such as a JSON of COCO's, may be large: one look at each is enough.
    return [path for path in paths if (text := head(path)).startswith("{") and '"shapes"' in text]


def _read(folder: Path, *, root: Path) -> dict[str, Any]:
    records, images = Records(folder), Images(root)
    for path in _files(folder):
        document = read_json(path, "labelme's JSON of an image")
        with records.naming(str(path)):
            given = str(document.get("imagePath") or "")
            file_name = images.find(given or path.stem, folder)
            if not (root / file_name).is_file():  # renamed since
                file_name = images.find(path.stem, folder)
            height, width = document.get("imageHeight"), document.get("imageWidth")
            records.add_image(file_name, (height, width) if height and width else images.size(file_name))
            _add_shapes(records, document["shapes"], path, (height, width))
    records.notes["images without a JSON file left out"] = images.unannotated()
    return records.document()


def _add_shapes(records: Records, shapes: list[Any], path: Path, size: tuple[int, int]) -> None:
    found: dict[tuple[str, ...], dict[str, Any]] = {}  # in their order, in which label maps are drawn
    for number, shape in enumerate(shapes):
        where = f"{path} shape {number}"
        with records.naming(where):
            name, kind = shape["label"], shape.get("shape_type") or "polygon"
            if not isinstance(name, str) or not name:
                raise ValueError(f"its label is {name!r:.60}, not a text")
            points = [(float(x), float(y)) for x, y in shape["points"]]
            least = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}.get(kind)
            if least is None:
                records.notes[f"shapes of the type {kind!r:.30} left out"] += 1
                continue
            if len(points) < least:
                raise ValueError(f"it is a {kind} of {len(points)} points, and needs {least}")
            if kind == "rectangle":
                found[name, where] = {"corners": extent(points)}
            elif kind == "mask":
                found[name, where] = {"mask": _mask(shape["mask"], points, size)}
            else:
                if kind == "circle":
                    radius = math.dist(points[0], points[1])
                    points = ellipse(points[0], (radius, radius))
                group = shape.get("group_id")
                # Shapes of one group and label are parts of one object.
                key = (name, where) if group is None else (name, str(group), "group")
                found.setdefault(key, {"polygons": []})["polygons"].append(points)
    for (name, *_), outline in found.items():
        records.add_object(name, f"{path} {name!r:.60}", **outline)


def _mask(text: str, points: list[Point], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A PNG in base64 of the box between two pixels, the last included."""
    part = read_pixels(io.BytesIO(base64.b64decode(text)), "its mask", size) > 0
    left, top = (round(number) for number in points[0])
    whole = blank_mask(size)
    if min(left, top) < 0 or whole[top : top + part.shape[0], left : left + part.shape[1]].shape != part.shape:
        raise ValueError("its mask reaches beyond the image")
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return whole
