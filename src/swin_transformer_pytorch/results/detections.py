"""The objects found in an image."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..checks import some
from ..extras import require
from ..names import by_name, did_you_mean
from ..rle import decode_mask
from .outlines import outline
from .shown import Shown

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections(Shown):
    """The objects found in one image, best first.

    `found[0]`, `found[:5]`, `found[[0, 2]]` and `found[found.labels == 3]` are detections again, of these objects, and
    so is each that a loop over them gives.

    Attributes:
        boxes_xyxy: float32, (n, 4): left, top, right and bottom edges in pixels of the image.
        scores: float32, (n,), in [0, 1].
        labels: int64, (n,), class indices from 0.
        names: the n objects' class names; "class 123" where the model has none.
        image_size: (height, width) of the image in pixels.
        mask_rles: for each object its pixels as COCO's compressed run lengths (`rle.decode_mask` opens them); None
            where no masks were asked for.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    image_size: tuple[int, int]
    mask_rles: tuple[bytes, ...] | None = None

    def __post_init__(self) -> None:
        # Lists are taken as well, the empty one too: four columns cannot be told from [].
        boxes = np.asarray(self.boxes_xyxy, dtype=np.float32)
        object.__setattr__(self, "boxes_xyxy", boxes if boxes.size else boxes.reshape(0, 4))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float32))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "image_size", tuple(int(side) for side in self.image_size))
        if self.mask_rles is not None:
            object.__setattr__(self, "mask_rles", tuple(self.mask_rles))
        count = len(self.names)
        shapes = self.boxes_xyxy.shape, self.scores.shape, self.labels.shape
        if shapes != ((count, 4), (count,), (count,)) or len(self.mask_rles or self.names) != count:
            masks = "none" if self.mask_rles is None else str(len(self.mask_rles))
            raise ValueError(
                f"boxes {shapes[0]}, scores {shapes[1]}, labels {shapes[2]}, {count} names and {masks} masks do not "
                "belong together; give (n, 4), (n,), (n,), n and n or None"
            )
        sound = np.isfinite(self.boxes_xyxy).all(axis=1) & np.isfinite(self.scores)
        if not sound.all():
            at = int(sound.argmin())
            raise ValueError(
                f"object {at} has the box {self.boxes_xyxy[at]} and the score {self.scores[at]}: "
                f"{int((~sound).sum())} of {count} objects have NaN or infinite numbers; leave them out"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, which: int | slice | Sequence[int] | NDArray[Any]) -> Detections:
        """Some of the objects: one, a slice, or those of a list or array of indices, or of a truth value each.

        Raises:
            IndexError: there is no such object, or it is no such index.
        """
        kept = np.arange(len(self))[which]
        if kept.ndim > 1 or isinstance(which, bool):
            raise IndexError(f"objects are chosen by a number, a slice, or a list of numbers or truths, not {which!r}")
        chosen = kept.reshape(-1).tolist()
        return Detections(
            boxes_xyxy=self.boxes_xyxy[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            names=tuple(self.names[index] for index in chosen),
            image_size=self.image_size,
            mask_rles=None if self.mask_rles is None else tuple(self.mask_rles[index] for index in chosen),
        )

    def __iter__(self) -> Iterator[Detections]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        same_arrays = all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("boxes_xyxy", "scores", "labels")
        )
        plain = (self.names, self.image_size, self.mask_rles)
        return same_arrays and plain == (other.names, other.image_size, other.mask_rles)

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """The objects' pixels, (n, height, width), decoded anew at each look; None where there are no masks."""
        if self.mask_rles is None:
            return None
        masks = np.zeros((len(self), *self.image_size), dtype=np.bool_)
        for index, mask in enumerate(masks):
            mask[:] = self.mask(index)
        return masks

    def mask(self, index: int) -> NDArray[np.bool_]:
        """One object's pixels, (height, width): all of a large image's may not fit in memory.

        Raises:
            ValueError: there are no masks.
        """
        if self.mask_rles is None:
            raise ValueError("these detections have no masks; look at .mask_rles before asking for one")
        return decode_mask(self.mask_rles[index], self.image_size)

    def above(self, score: float) -> Detections:
        """Those of at least that score."""
        return self[self.scores >= np.float32(score)]

    def counts(self) -> dict[str, int]:
        """Class name -> how many there are of it, the most first."""
        return dict(Counter(self.names).most_common())

    def crop(self, image: Image.Image | NDArray[np.uint8] | str | os.PathLike[str], *, cut_out: bool = False) -> Any:
        """A list of each object's part of the image, as PIL images: the pixels that its box touches, one at least.

        Args:
            image: the one that they were found in: as `plot` takes it.
            cut_out: whether all but the object's mask is transparent, in "RGBA".

        Raises:
            ValueError: the image has another size or cannot be read, or there are no masks to cut out.
        """
        from ..visualize.pictures import picture_of

        picture = picture_of(image, self.image_size)
        return [self._cropped(picture, index, cut_out) for index in range(len(self))]

    def _cropped(self, picture: Image.Image, index: int, cut_out: bool) -> Image.Image:
        from PIL import Image

        height, width = self.image_size
        left, top, right, bottom = self.boxes_xyxy[index].tolist()
        x, y = (int(min(max(edge, 0), side - 1)) for edge, side in ((left, width), (top, height)))
        box = (x, y, max(x + 1, min(math.ceil(right), width)), max(y + 1, min(math.ceil(bottom), height)))
        part = picture.crop(box)
        if cut_out:
            part.putalpha(Image.fromarray(self.mask(index)).crop(box).convert("L"))
        return part

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ready for JSON.

        "image_size" is [height, width]; "boxes" are [left, top, right, bottom]; "masks", left out where there are
        none, are {"size": [height, width], "counts": str} as COCO's tools take them.
        """
        record: dict[str, Any] = {
            "image_size": list(self.image_size),
            "boxes": [_shortest(box) for box in self.boxes_xyxy],
            "scores": _shortest(self.scores),
            "labels": self.labels.tolist(),
            "names": list(self.names),
        }
        if self.mask_rles is not None:
            record["masks"] = self._coco_masks()
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Detections:
        """What `to_dict` gave, or a line of `swin predict --output`.

        Raises:
            KeyError: it is no such record.
        """
        masks = record.get("masks")
        return cls(
            boxes_xyxy=record["boxes"],
            scores=record["scores"],
            labels=record["labels"],
            names=record["names"],
            image_size=record["image_size"],
            mask_rles=None if masks is None else tuple(mask["counts"].encode("ascii") for mask in masks),
        )

    def to_coco(
        self, image_id: int | str, category_ids: Mapping[str, int] | Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """COCO's results format, a dictionary an object: image_id, category_id, score, bbox [left, top, width, height]
        in pixels, and where there are masks "segmentation", their run lengths.

        Names and the image's size are not in the format. COCO's tools take a mask's size from "bbox" where both are
        there: leave that out of results whose masks are measured by size.

        Args:
            image_id: the image's number in the data set.
            category_ids: of the data set, by class name, or one for each label; None for label + 1, as this package,
                like most, numbers categories.

        Raises:
            ValueError: a class has no category.
        """
        records: list[dict[str, Any]] = []
        boxes, scores, ids = self.boxes_xyxy.tolist(), _shortest(self.scores), self._category_ids(category_ids)
        for (left, top, right, bottom), score, category_id in zip(boxes, scores, ids, strict=True):
            box = [left, top, right - left, bottom - top]
            records.append({"image_id": image_id, "category_id": category_id, "score": score, "bbox": box})
        for record, mask in zip(records, self._coco_masks(), strict=False):
            record["segmentation"] = mask
        return records

    def _category_ids(self, category_ids: Mapping[str, int] | Sequence[int] | None) -> list[int]:
        labels = self.labels.tolist()
        if category_ids is None:
            return [label + 1 for label in labels]
        if not isinstance(category_ids, Mapping):
            if max(labels, default=-1) >= len(category_ids):
                raise ValueError(f"there are {len(category_ids)} category_ids and the label {max(labels)}; give all")
            return [category_ids[label] for label in labels]
        ids = {name: find(name) for find in [by_name(category_ids)] for name in self.names}
        if unknown := [name for name, it in ids.items() if it is None]:
            hint = did_you_mean(unknown[0], category_ids)
            raise ValueError(f"category_ids has no {some(unknown)}: {hint}give the id of each class by its name")
        return [int(ids[name]) for name in self.names]  # type: ignore[arg-type]

    def _coco_masks(self) -> list[dict[str, Any]]:
        size = list(self.image_size)
        return [{"size": size, "counts": counts.decode("ascii")} for counts in self.mask_rles or ()]

    def to_yolo(self, *, scores: bool = False, outlines: bool = False) -> list[str]:
        """YOLO's lines, "label x y width height" an object: its box's centre and size as shares of the image.

        Names, masks and the image's size are not in them. With `scores` each line ends in its object's, as the
        predictions of YOLO tools do; labels to train with have none.

        With `outlines` a line is "label x y x y ...", the corners of one polygon around the pixels of the object's
        mask, in shares likewise, in place of its box; see `outlines.outline`. Of a mask without pixels they are those
        of the box.

        Raises:
            ValueError: outlines are asked for, and there are no masks.
        """
        height, width = self.image_size
        corners = self.boxes_xyxy.astype(np.float64) / (width, height, width, height)
        centres, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        lines = [f"{x:.8f} {y:.8f} {w:.8f} {h:.8f}" for x, y, w, h in np.concatenate([centres, sizes], axis=1).tolist()]
        if outlines:
            lines = [
                " ".join(f"{share:.6f}" for share in (polygon / (width, height)).ravel().tolist())
                for polygon in map(self._outline, range(len(self)))
            ]
        lines = [f"{label} {line}" for label, line in zip(self.labels, lines, strict=True)]
        return [f"{line} {score}" for line, score in zip(lines, self.scores, strict=True)] if scores else lines

    def _outline(self, index: int) -> NDArray[Any]:
        if len(polygon := outline(self.mask(index))):
            return polygon
        height, width = self.image_size
        left, top, right, bottom = self.boxes_xyxy[index].astype(np.float64).clip(0, (width, height, width, height))
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])

    def to_supervision(self) -> Any:
        """A `supervision.Detections`, whose data have the names as "class_name"; the image's size is not in it.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        return require("supervision", extra="supervision").Detections(
            xyxy=self.boxes_xyxy.copy(),
            mask=self.masks,
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def columns(self) -> dict[str, Any]:
        """A row an object: its name, score, label, edges in pixels, and where there are masks its run lengths as text.

        The image's size is not in it.
        """
        edges = dict(zip(("left", "top", "right", "bottom"), self.boxes_xyxy.T.copy(), strict=True))
        columns = {"name": list(self.names), "score": self.scores, "label": self.labels, **edges}
        return columns if self.mask_rles is None else columns | {"mask": [it.decode("ascii") for it in self.mask_rles]}

    def texts(self) -> list[str]:
        return [f"{name} {score:.1%}" for name, score in zip(self.names, self.scores, strict=True)]

    def __str__(self) -> str:
        return ", ".join(self.texts()) or "no objects"

    def __repr__(self) -> str:
        masks = "without masks" if self.mask_rles is None else "with masks"
        height, width = self.image_size
        found = some([f"{count} {name}" for name, count in self.counts().items()], 5) or "none"
        return f"<Detections of {len(self)} objects {masks} in {height} x {width} pixels: {found}>"


def _shortest(values: NDArray[np.float32]) -> list[float]:
    """Without the digits that float32 does not hold: 0.3 and not 0.30000001192092896; read back, the same bits."""
    return [float(str(value)) for value in values]
