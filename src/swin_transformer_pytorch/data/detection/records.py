"""COCO's dictionary, put together from the files of another format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from ... import rle
from ...checks import plural
from ..errors import DataError, Findings, report, some
from ..images.decode import open_image
from .annotations import check_document

Point = tuple[float, float]

_MOST_PIXELS = 1 << 29  # of a mask
_CORNERS = 64  # of a polygon that stands for a circle


class Records(Findings):
    """Takes images and their objects one after another; numbers are pixels from the image's top left corner.

    Args:
        source: the file or folder that messages name.
        names: the classes in their order; None for those that objects have, sorted.
    """

    def __init__(self, source: Path, names: Sequence[str] | None = None) -> None:
        if twice := sorted({name for name in names or () if list(names or ()).count(name) > 1}):
            raise DataError(f"{source} has several classes of one name: {some(twice)}; rename them")
        super().__init__(source)
        self.names = names
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add_image(self, file_name: str, size: tuple[int, int]) -> None:
        """The image, of (height, width), whose objects come next."""
        self._images.append({"id": len(self._images) + 1, "file_name": file_name, "height": size[0], "width": size[1]})

    def add_object(
        self,
        name: str,
        where: str,
        *,
        corners: tuple[float, float, float, float] | None = None,
        polygons: Sequence[Sequence[Point]] = (),
        mask: NDArray[np.bool_] | None = None,
        crowd: bool = False,
    ) -> None:
        """An object of the last image, of the class `name`.

        Args:
            where: its file and place there.
            corners: left, top, right and bottom edge of its box; None for that around polygons or mask.
            polygons: its outlines; none for a box alone.
            mask: instead, its pixels (H, W).
            crowd: whether it is a group of objects, or one that does not count.
        """
        shape: Any = None
        if mask is not None:
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if not len(rows):
                self.notes["masks without a pixel left out"] += 1
                return
            area: float = int(mask.sum())
            around = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
            shape = {"size": list(mask.shape), "counts": rle.encode_mask(mask).decode()}
        elif polygons:
            xs, ys = zip(*(point for polygon in polygons for point in polygon), strict=True)
            around = (min(xs), min(ys), max(xs), max(ys))
            shape = [[float(number) for point in polygon for number in point] for polygon in polygons]
            area = sum(_area(polygon) for polygon in polygons)
        left, top, right, bottom = corners if corners is not None else around
        record = {
            "id": len(self._annotations) + 1,
            "image_id": len(self._images),
            "name": name,
            "bbox": [left, top, right - left, bottom - top],
            "area": area if shape else max(0, right - left) * max(0, bottom - top),
            "iscrowd": int(crowd),
            "where": where,
        }
        self._annotations.append(record | ({"segmentation": shape} if shape else {}))

    def document(self) -> dict[str, Any]:
        """COCO's dictionary, checked; what was noted is logged.

        Raises:
            DataError: there are no images or no classes, or some entries are broken.
        """
        report(self.source, "annotations", self.problems)
        if not self._images:
            raise DataError(f"{self.source} has no images that are there; put them beside their annotations")
        names = self.names or sorted({one["name"] for one in self._annotations})
        if not names:
            raise DataError(f"{self.source} has {plural(len(self._images), 'image')} and no object; annotate some")
        ids = {name: index for index, name in enumerate(names, start=1)}
        for one in self._annotations:
            one["category_id"] = ids[one.pop("name")]
        self.say_notes()
        return check_document(
            {
                "images": self._images,
                "annotations": self._annotations,
                "categories": [{"id": index, "name": name} for index, name in enumerate(names, start=1)],
            },
            self.source,
        )


def read_pixels(file: BinaryIO, name: str, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """The values of a grey or palette image that holds a mask, of at most as many pixels as one of `size`.

    Raises:
        ValueError: it is damaged, or of another kind.
    """
    try:
        with open_image(file, name, max_pixels=math.prod(size)) as image:
            if image.mode not in ("1", "L", "P"):
                raise ValueError(f"its mode is {image.mode}, not that of a grey or palette image")
            return np.array(image, dtype=np.uint8)
    except Exception as error:  # decoders raise nearly every kind on a damaged file
        raise ValueError(f"{name} cannot be used: {error}") from error


def blank_mask(size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (H, W) without a pixel; a `ValueError` for a size that no image has."""
    if math.prod(size) > _MOST_PIXELS:
        raise ValueError(f"its image is said to have {size[0]} x {size[1]} pixels")
    return np.zeros(size, dtype=np.bool_)


def rectangle(left: float, top: float, width: float, height: float, degrees: float, centre: Point) -> list[Point]:
    """The corners of a rectangle that is turned clockwise around a point."""
    corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
    return [_turned(corner, degrees, centre) for corner in corners]


def ellipse(centre: Point, radii: Point, degrees: float = 0) -> list[Point]:
    """Corners of a polygon that stands for an ellipse, turned clockwise around its centre."""
    angles = [2 * math.pi * index / _CORNERS for index in range(_CORNERS)]
    around = [(centre[0] + radii[0] * math.cos(angle), centre[1] + radii[1] * math.sin(angle)) for angle in angles]
    return [_turned(point, degrees, centre) for point in around]


def extent(points: Sequence[Point]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of some points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _turned(point: Point, degrees: float, centre: Point) -> Point:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = point[0] - centre[0], point[1] - centre[1]
    return centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine


def _area(polygon: Sequence[Point]) -> float:
    pairs = zip(polygon, [*polygon[1:], polygon[0]], strict=True)
    return abs(sum(x * other_y - other_x * y for (x, y), (other_x, other_y) in pairs)) / 2
