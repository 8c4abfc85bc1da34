"""Label Studio's JSON and CSV: one file for all, a list of tasks."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..documents import head, holds_choices, is_tasks_csv, read_tasks
from ..errors import DataError
from ..images.places import Images
from .folders import CocoFolder, Parts
from .records import Records, blank_mask, ellipse, extent, rectangle

_SIGNS_OF_IT = ('"annotations"', '"annotation_id"', '"original_width"', '"rle"')  # the latter ones of JSON-MIN
_SHAPES = {"rectangle": "height", "polygon": "points", "ellipse": "radiusX", "brush": "rle"}


def label_studio_parts(root: Path) -> Parts:
    """Label Studio's exports "JSON", "JSON-MIN" and "CSV", with images anywhere below the root; they have no parts."""
    found = [
        path
        for path in sorted((*root.glob("*.json"), *root.glob("*.csv")))
        if _lists_tasks(text := head(path)) and not holds_choices(text)
    ]
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise DataError(f"{root} has several exports of Label Studio: {listed}; keep one of them there")
    read = partial(_read, root=root)
    return {"all": CocoFolder(images_folder=root, annotations_file=found[0], read=read)} if found else {}


def _lists_tasks(text: str) -> bool:
    signs = '"id"' in text and any(sign in text for sign in _SIGNS_OF_IT)
    return signs and text.startswith("[") or is_tasks_csv(text)


def _read(path: Path, *, root: Path) -> dict[str, Any]:
    records, images = Records(path), Images(root)
    seen: set[Any] = set()
    for number, task in enumerate(read_tasks(path, "Label Studio's export 'JSON'")):
        where = f"{path} task {task.get('id', number) if isinstance(task, dict) else number}"
        with records.naming(where):
            given = _annotations(task)
            if not given:
                records.notes["tasks without an annotation left out"] += 1
                continue
            again = "annotations" not in task and task["id"] in seen
            records.notes["further annotations of a task passed over: the first counts"] += len(given) - 1 + again
            if again:
                continue
            seen.add(task.get("id"))
            results = [one for one in given[0] if isinstance(one.get("value"), dict)]
            file_name = images.find_uploaded(task.get("data", task))
            shapes = [one for one in results if "original_width" in one]
            sizes = {(int(one["original_height"]), int(one["original_width"])) for one in shapes}
            if len(sizes) > 1:
                raise ValueError(f"its results are of images of several sizes: {sizes}")
            size = sizes.pop() if sizes else images.size(file_name)
            records.add_image(file_name, size)
            # <Rectangle> with <Labels> are two results of one id.
            labels = {one.get("id"): one["value"]["labels"] for one in results if one["value"].get("labels")}
            for one in shapes:
                _add(records, one, labels, f"{where} result {one.get('id', '')}", size)
    return records.document()


def _annotations(task: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The results of each annotation; a row of "JSON-MIN" is one."""
    if "annotations" in task:
        return [one["result"] for one in task["annotations"] if not one.get("was_cancelled")]
    return [
        [_full(one) for value in task.values() if isinstance(value, list) for one in value if isinstance(one, dict)]
    ]


def _full(one: dict[str, Any]) -> dict[str, Any]:
    """A result as "JSON" has it of one of "JSON-MIN", whose type is told by what it has."""
    kind = next((kind for kind, sign in _SHAPES.items() if sign in one), "")
    key = next((key for key in one if key.endswith("labels")), "")
    return {**one, "type": f"{kind}labels" if kind else key, "value": one | {f"{kind}labels": one.get(key)}}


def _add(
    records: Records, one: dict[str, Any], labels: dict[Any, list[str]], where: str, size: tuple[int, int]
) -> None:
    with records.naming(where):
        value, kind = one["value"], str(one["type"]).removesuffix("labels")
        names = value.get(one["type"]) or value.get(f"{kind}labels") or labels.get(one.get("id", ""))
        if kind not in ("rectangle", "polygon", "ellipse", "brush"):
            if kind not in ("", "choices", "textarea", "rating"):
                records.notes[f"results of the type {one['type']!r:.30} left out"] += 1
            return
        if not names:
            records.notes["shapes without a label left out"] += 1
            return
        records.notes["further labels of a shape passed over: the first counts"] += len(names) - 1
        if one.get("image_rotation"):
            raise ValueError("its image was turned in Label Studio; turn the file, and export again")
        name, (height, width) = str(names[0]), size
        across, down = width / 100, height / 100  # values are percentages
        degrees = float(value.get("rotation") or 0)
        if kind == "rectangle":
            left, top = value["x"] * across, value["y"] * down
            right, bottom = left + value["width"] * across, top + value["height"] * down
            if degrees:
                records.notes["boxes that are turned: the upright box around each counts"] += 1
            turned = rectangle(left, top, right - left, bottom - top, degrees, (left, top))
            records.add_object(name, where, corners=extent(turned) if degrees else (left, top, right, bottom))
        elif kind == "polygon":
            records.add_object(name, where, polygons=[[(x * across, y * down) for x, y in value["points"]]])
        elif kind == "ellipse":
            centre = value["x"] * across, value["y"] * down
            radii = value["radiusX"] * across, value["radiusY"] * down
            records.add_object(name, where, polygons=[ellipse(centre, radii, degrees)])
        else:
            records.add_object(name, where, mask=decode_brush(value["rle"], size))


def decode_brush(numbers: list[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a brush: four bytes a pixel, of which the fourth counts, as run lengths of thi.ng/rle-pack.

    That is bits: 32 for the number of values, 5 for the bits of one, less one, four times 4 for the bits of lengths,
    less one; then pieces: 1 bit for a run or 0 for single values, 2 for which length, the length less one, the values.

    Raises:
        ValueError: it is cut short, or for another number of pixels.
    """
    bits = "".join(f"{number:08b}" for number in bytes([*numbers]))
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise ValueError("its run lengths are cut short")
        return int(bits[place - count : place], 2)

    total = read(32)
    if total != 4 * math.prod(size):
        raise ValueError(f"its run lengths make {total} values, and {size[0]} x {size[1]} pixels have four each")
    word, lengths = read(5) + 1, [read(4) + 1 for _ in range(4)]
    inside = blank_mask((total // 4, 4)).ravel()
    done = 0
    while done < total:
        same = read(1)
        end = done + 1 + read(lengths[read(2)])
        if end > total:
            raise ValueError(f"its run lengths make more than {total} values")
        inside[done:end] = read(word) if same else [read(word) for _ in range(end - done)]
        done = end
    return inside.reshape(*size, 4)[..., 3]
