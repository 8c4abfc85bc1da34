"""Pascal VOC's XML files, one an image, with masks in SegmentationObject where there are any."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8

from ..documents import head, read_lines, read_xml
from ..held_out import PART_NAMES, part_name
from ..images.places import Images
from .folders import CocoFolder, Parts
from .records import Records, read_pixels

_BOX = ("xmin", "ymin", "xmax", "ymax")


def voc_parts(root: Path) -> Parts:
    """The parts of a data set in Pascal VOC's layout: Annotations/ with the lists of ImageSets/Main (VOC itself, CVAT),
    or XML files in a folder for each part (Roboflow) or all in one; images are found by name, wherever below the root.
    """
    folder = next((root / name for name in ("Annotations", "annotations") if _has_xml(root / name)), None)
    lists = {path.stem.lower(): path for path in sorted((root / "ImageSets" / "Main").glob("*.txt"))}
    if folder is not None:
        named = {part: lists[name] for part, names in PART_NAMES.items() for name in names if name in lists}
        if "trainval" in lists:
            named.setdefault("train", lists["trainval"])
        return {part: _part(root, folder, path) for part, path in named.items()} or {"all": _part(root, folder)}
    places = [one for one in (root, root / "Annotations", root / "annotations") if one.is_dir()]
    found = {
        part_name(inside.name): _part(root, deeper)
        for place in places
        for inside in sorted(place.iterdir())
        if inside.is_dir() and part_name(inside.name) != "all"
        for deeper in (inside, inside / "annotations", inside / "Annotations")
        if _has_xml(deeper)
    }
    return found or ({"all": _part(root, root)} if _has_xml(root) else {})


def _part(root: Path, folder: Path, listed: Path | None = None) -> CocoFolder:
    read = partial(_read, root=root, folder=folder)
    return CocoFolder(images_folder=root, annotations_file=folder if listed is None else listed, read=read)


def _has_xml(folder: Path) -> bool:
    start = head(min(folder.glob("*.xml"), default=folder))
    return "<annotation" in start and "<annotations" not in start


def _read(source: Path, *, root: Path, folder: Path) -> dict[str, Any]:
    records, images = Records(source), Images(root)
    stems = [path.stem for path in sorted(folder.glob("*.xml"))]
    if source != folder:  # lines of a list may have a second word, 1 or -1
        listed = dict.fromkeys(line.split()[0] for line in read_lines(source, "a list of images, one a line"))
        records.notes["listed images without an XML file left out"] = len(listed.keys() - {*stems})
        stems = [stem for stem in listed if stem in {*stems}]
    trees = {folder / f"{stem}.xml": read_xml(folder / f"{stem}.xml", "an image's XML as VOC's") for stem in stems}
    first = _first_pixel(trees)
    if first == 0:
        # VOC's own count from 1.
        records.notes["XML files taken to count pixels from 0, as some of their boxes begin there"] = len(trees)
    for path, tree in trees.items():
        with records.naming(str(path)):
            file_name = images.find(path.stem, folder)
            written = [int(float(tree.findtext(f"size/{side}", "0"))) for side in ("height", "width")]
            size = (written[0], written[1]) if min(written) > 0 else images.size(file_name)
            records.add_image(file_name, size)
            masks = _masks(root / "SegmentationObject" / f"{path.stem}.png", size)
            for number, one in enumerate(tree.iterfind("object"), start=1):
                where = f"{path} object {number}"
                with records.naming(where):
                    _add(records, one, where, first, None if masks is None else masks == number)
    if source == folder:
        records.notes["images without an XML file left out"] = images.unannotated()
    return records.document()


def _first_pixel(trees: dict[Path, ElementTree.Element]) -> int:
    """What the coordinates count from: VOC's from 1, some tools' from 0, which a smaller one shows."""
    for tree in trees.values():
        for side in ("xmin", "ymin"):
            for found in tree.iterfind(f"object/bndbox/{side}"):
                try:
                    if float(found.text or 1) < 1:
                        return 0
                except ValueError:
                    continue  # it is named when its object is added
    return 1


def _masks(path: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"] | None:
    """The number of each pixel's object, from 1; None where there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        numbers = read_pixels(file, str(path), size)
    if numbers.shape != size:
        raise ValueError(f"{path} has {numbers.shape[1]} x {numbers.shape[0]} pixels, its image {size[1]} x {size[0]}")
    return numbers


def _add(
    records: Records, one: ElementTree.Element, where: str, first: int, mask: np.ndarray[Any, np.dtype[np.bool_]] | None
) -> None:
    name = (one.findtext("name") or "").strip()
    box = one.find("bndbox")
    if not name or box is None:
        raise ValueError(f"it has no {'bndbox' if name else 'name'}")
    left, top, right, bottom = (float(box.findtext(side) or "nothing") for side in _BOX)
    difficult = (one.findtext("difficult") or "0").strip() == "1"
    if difficult:
        records.notes["objects marked difficult, neither learned nor counted in evaluation (as iscrowd)"] += 1
    records.add_object(
        name,
        where,
        # The last pixel is part of the box: counted from 1, its number is that of its right edge.
        corners=(left - first, top - first, right, bottom),
        mask=mask if mask is not None and mask.any() else None,
        crowd=difficult,
    )
