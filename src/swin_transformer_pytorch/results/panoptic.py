"""The segments that an image falls into: things one by one, and stuff by class."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import some
from ..colours import Colour
from ..names import by_name, composed, did_you_mean
from ..whole import replacing
from .shown import Shown

_MOST_IDS = 1 << 24  # of three bytes, the red, green and blue of COCO's PNGs


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of an image.

    Attributes:
        id: its number in the image, from 1.
        label: its class's index from 0.
        score: in [0, 1].
        area: its pixels, one at least.
        is_thing: whether it is an object that can be counted; else it is stuff, all of its class in the image.
    """

    id: int
    label: int
    score: float
    area: int
    is_thing: bool

    def __post_init__(self) -> None:
        # Numbers of numpy are taken as well, and do not become JSON.
        for name, kind in (("id", int), ("label", int), ("score", float), ("area", int), ("is_thing", bool)):
            object.__setattr__(self, name, kind(getattr(self, name)))


@dataclass(frozen=True, kw_only=True, eq=False)
class PanopticSegmentation(Shown):
    """The segments of one image: no two overlap, and some pixels may be in none.

    Attributes:
        segment_ids: int32, (height, width): the id of each pixel's segment; 0 for none.
        segments: those that `segment_ids` has.
        names: all classes' names by index.
        palette: a (red, green, blue) of 0 to 255 for each class; None where the classes have no colours of their own.
    """

    segment_ids: NDArray[np.int32]
    segments: tuple[Segment, ...]
    names: tuple[str, ...]
    palette: tuple[Colour, ...] | None = None

    def __post_init__(self) -> None:
        ids = np.asarray(self.segment_ids)
        if ids.ndim != 2 or ids.dtype.kind not in "ui":
            raise ValueError(f"segment_ids of shape {ids.shape} and type {ids.dtype}; give whole numbers (H, W)")
        if ids.size and (ids.min() < 0 or ids.max() >= _MOST_IDS):
            raise ValueError(
                f"segment_ids go from {ids.min()} to {ids.max()}; use 1 to {_MOST_IDS - 1}, and 0 for pixels of none"
            )
        object.__setattr__(self, "segment_ids", ids.astype(np.int32, copy=False))
        object.__setattr__(self, "segments", tuple(self.segments))
        object.__setattr__(self, "names", tuple(self.names))
        _check_segments(self.segments, self.segment_ids, self.names)
        if self.palette is not None:
            object.__setattr__(self, "palette", tuple(tuple(int(one) for one in colour) for colour in self.palette))
            if len(self.palette) != len(self.names):
                raise ValueError(f"{len(self.palette)} colours for {len(self.names)} classes; give one for each")

    def __len__(self) -> int:
        return len(self.segments)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PanopticSegmentation):
            return NotImplemented
        plain = (self.segments, self.names, self.palette)
        same = plain == (other.segments, other.names, other.palette)
        return same and np.array_equal(self.segment_ids, other.segment_ids)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.segment_ids.shape
        return height, width

    @property
    def shares(self) -> dict[int, float]:
        """The part of the image that each segment covers, in [0, 1], by its id, the largest first."""
        ordered = sorted(self.segments, key=lambda segment: -segment.area)
        return {segment.id: segment.area / self.segment_ids.size for segment in ordered}

    def mask(self, which: int | str) -> NDArray[np.bool_]:
        """The pixels of one segment, or of all of a class, (height, width).

        Args:
            which: a segment's id, or the name of a class, whose pixels may be none; of classes that share it, all.

        Raises:
            ValueError: there is no such segment or class.
        """
        if isinstance(which, str):
            labels = {label for label, name in enumerate(self.names) if composed(name) == composed(which)}
            if not labels:
                hint = did_you_mean(which, self.names) or f"the classes are {some(self.names)}"
                raise ValueError(f"there is no class {which!r}: {hint.strip()}")
            return np.isin(self.segment_ids, [segment.id for segment in self.segments if segment.label in labels])
        if which not in {segment.id for segment in self.segments}:
            known = some([str(segment.id) for segment in self.segments]) or "none"
            raise ValueError(f"there is no segment {which}: the ids are {known}")
        return self.segment_ids == which

    def counts(self) -> dict[str, int]:
        """Class name -> how many segments there are of it, the most first."""
        return dict(Counter(self.names[segment.label] for segment in self.segments).most_common())

    def columns(self) -> dict[str, Any]:
        """A row a segment: its class's name, score, pixels, their share, label, whether it is a thing, and its id."""
        return {
            "name": [self.names[segment.label] for segment in self.segments],
            "score": [segment.score for segment in self.segments],
            "pixels": [segment.area for segment in self.segments],
            "share": [segment.area / self.segment_ids.size for segment in self.segments],
            "label": [segment.label for segment in self.segments],
            "is_thing": [segment.is_thing for segment in self.segments],
            "id": [segment.id for segment in self.segments],
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ready for JSON: the segments in their order.

        The map itself is not among them; `save_coco` writes it as a PNG.
        """
        return {
            "image_size": list(self.image_size),
            "segments": [
                {
                    "id": segment.id,
                    "label": segment.label,
                    "name": self.names[segment.label],
                    "score": segment.score,
                    "area": segment.area,
                    "is_thing": segment.is_thing,
                }
                for segment in self.segments
            ],
        }

    def to_coco(
        self,
        image_id: int | str,
        file_name: str,
        category_ids: Mapping[str, int] | Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """An image's entry among the "annotations" of COCO's panoptic format: "image_id", "file_name" and, for each
        segment in "segments_info", id, category_id, area, bbox [left, top, width, height] in pixels, iscrowd 0, and
        beyond the format score and isthing.

        Args:
            image_id: the image's number in the data set.
            file_name: of the PNG that holds the segments' ids, see `ids_as_colours`.
            category_ids: of the data set, by class name, or one for each label; None for label + 1.

        Raises:
            ValueError: a class has no category.
        """
        category_of = self._category_ids(category_ids)
        boxes = segment_boxes(self.segment_ids, [segment.id for segment in self.segments])
        return {
            "image_id": image_id,
            "file_name": file_name,
            "segments_info": [
                {
                    "id": segment.id,
                    "category_id": category_of[segment.label],
                    "area": segment.area,
                    "bbox": box,
                    "iscrowd": 0,
                    "score": segment.score,
                    "isthing": int(segment.is_thing),
                }
                for segment, box in zip(self.segments, boxes, strict=True)
            ],
        }

    def save_coco(
        self, path: str | os.PathLike[str], *, image_id: int | str = 0, things: Collection[int] | None = None
    ) -> None:
        """Writes COCO's panoptic format for this image alone: a PNG whose colours are the segments' ids, and beside it,
        of the same name, a JSON with "images", "annotations" and "categories", which comes last.

        Args:
            path: the PNG's; its folder is made where it is missing.
            image_id: the image's number.
            things: the labels of all classes of things. None: categories that the image has not say no "isthing", which
                tools need that take the files for the truth and not for a prediction.

        Raises:
            ValueError: the path does not end in .png.
        """
        from PIL import Image

        path = _png_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = self.image_size
        document = {
            "images": [{"id": image_id, "file_name": path.name, "height": height, "width": width}],
            "annotations": [self.to_coco(image_id, path.name)],
            "categories": self._categories(things),
        }
        text = json.dumps(document, ensure_ascii=False)
        with replacing(path.with_suffix(".json")) as temporary_json, replacing(path) as temporary_png:
            Image.fromarray(ids_as_colours(self.segment_ids)).save(temporary_png, format="PNG")
            temporary_json.write_text(text, encoding="utf-8")

    @classmethod
    def read_coco(cls, path: str | os.PathLike[str]) -> PanopticSegmentation:
        """What `save_coco` wrote to this path.

        Raises:
            ValueError: the files are not there, or do not hold that; the message names them.
        """
        from PIL import Image

        path = _png_path(path)
        beside = path.with_suffix(".json")
        try:
            document = json.loads(beside.read_text(encoding="utf-8"))
            with Image.open(path) as image:
                pixels = np.array(image)
            (entry,), categories = document["annotations"], document["categories"]
            label_of = {category["id"]: label for label, category in enumerate(categories)}
            colours = [category.get("color") for category in categories]
            return cls(
                segment_ids=colours_as_ids(pixels),
                segments=tuple(
                    Segment(
                        id=one["id"],
                        label=label_of[one["category_id"]],
                        score=one["score"],
                        area=one["area"],
                        is_thing=bool(one["isthing"]),
                    )
                    for one in entry["segments_info"]
                ),
                names=tuple(category["name"] for category in categories),
                palette=None if not colours or None in colours else tuple(map(tuple, colours)),
            )
        except OSError as error:
            raise ValueError(f"{error.filename or path} cannot be read ({error.strerror or error})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"there is no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{path} and {beside.name} are no result that was saved: {reason}") from error

    def _categories(self, things: Collection[int] | None) -> list[dict[str, Any]]:
        """COCO's, in the order of labels."""
        is_thing = {} if things is None else {label: label in things for label in range(len(self.names))}
        is_thing |= {segment.label: segment.is_thing for segment in self.segments}
        categories: list[dict[str, Any]] = []
        for label, name in enumerate(self.names):
            known = {"isthing": int(is_thing[label])} if label in is_thing else {}
            colour = {} if self.palette is None else {"color": list(self.palette[label])}
            categories.append({"id": label + 1, "name": name, **known, **colour})
        return categories

    def _category_ids(self, category_ids: Mapping[str, int] | Sequence[int] | None) -> dict[int, int]:
        labels = sorted({segment.label for segment in self.segments})
        if category_ids is None:
            return {label: label + 1 for label in labels}
        if not isinstance(category_ids, Mapping):
            if max(labels, default=-1) >= len(category_ids):
                raise ValueError(f"there are {len(category_ids)} category_ids and the label {max(labels)}; give all")
            return {label: int(category_ids[label]) for label in labels}
        find = by_name(category_ids)
        ids = {label: find(self.names[label]) for label in labels}
        if unknown := [self.names[label] for label, number in ids.items() if number is None]:
            hint = did_you_mean(unknown[0], category_ids)
            raise ValueError(f"category_ids has no {some(unknown)}: {hint}give the id of each class by its name")
        return {label: int(number) for label, number in ids.items() if number is not None}

    def __str__(self) -> str:
        return ", ".join(self.texts()) or "no segments"

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"<PanopticSegmentation of {height} x {width} pixels: {some(self.texts(), 5) or 'no segments'}>"

    def texts(self) -> list[str]:
        """Such as "3 x car 12.0%", a class each, the largest first."""
        areas: Counter[int] = Counter()
        things: Counter[int] = Counter()
        for segment in self.segments:
            areas[segment.label] += segment.area
            things[segment.label] += segment.is_thing
        numbers = {label: f"{things[label]} x " if things[label] > 1 else "" for label in areas}
        return [
            f"{numbers[label]}{self.names[label]} {area / self.segment_ids.size:.1%}"
            for label, area in areas.most_common()
        ]


def ids_as_colours(segment_ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """The RGB pixels (H, W, 3) of COCO's panoptic PNGs, red + 256 green + 65,536 blue being the id, below 2^24."""
    ids = segment_ids.astype(np.uint32)
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)


def colours_as_ids(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The ids (H, W) of such pixels.

    Raises:
        ValueError: they are no RGB pixels of 8 bits.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels of shape {pixels.shape} and type {pixels.dtype}; ids are RGB pixels of 8 bits")
    wide = pixels.astype(np.int32)
    ids: NDArray[np.int32] = wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16
    return ids


def _check_segments(segments: Sequence[Segment], ids: NDArray[np.int32], names: Sequence[str]) -> None:
    """Raises a `ValueError` unless these are the segments of the map, each of a class."""
    values, counts = np.unique(ids, return_counts=True)
    areas = dict(zip(values.tolist(), counts.tolist(), strict=True))
    areas.pop(0, None)
    seen: set[int] = set()
    is_thing: dict[int, bool] = {}
    for segment in segments:
        if segment.id in seen:
            raise ValueError(f"two segments have the id {segment.id}; number them anew")
        seen.add(segment.id)
        if segment.id not in areas:
            raise ValueError(f"the segment {segment.id} has no pixel in segment_ids; leave it out, or number it from 1")
        if segment.area != areas[segment.id]:
            raise ValueError(
                f"the segment {segment.id} has the area {segment.area}, and segment_ids {areas[segment.id]} such "
                "pixels; count them"
            )
        if not 0 <= segment.label < len(names):
            raise ValueError(f"the label {segment.label} has no name among the {len(names)}; name all classes")
        if not 0 <= segment.score <= 1:
            raise ValueError(f"the segment {segment.id} has the score {segment.score}; give a number in [0, 1]")
        if is_thing.setdefault(segment.label, segment.is_thing) != segment.is_thing:
            raise ValueError(f"the class {names[segment.label]!r} has both things and stuff; it is one of them")
    if strangers := sorted(areas.keys() - seen):
        raise ValueError(
            f"segment_ids has pixels of no segment: {some([str(one) for one in strangers])}; name them all"
        )


def segment_boxes(segment_ids: NDArray[np.integer[Any]], ids: Sequence[int]) -> list[list[int]]:
    """[left, top, width, height] of the pixels of each id."""
    boxes = []
    for number in ids:
        mask = segment_ids == number
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top, right, bottom = (int(edge) for edge in (columns[0], rows[0], columns[-1], rows[-1]))
        boxes.append([left, top, right + 1 - left, bottom + 1 - top])
    return boxes


def _png_path(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(
            f"{path} ends in {path.suffix or 'nothing'!r}; ids are saved in a .png, with a .json beside it"
        )
    return path
