"""What a prediction is: frozen dataclasses of plain Python values and numpy arrays, one for each task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .colours import Colour
from .labels import IGNORED
from .rle import decode_mask

"""In label maps: a pixel without a class."""


@dataclass(frozen=True, kw_only=True)
class Classification:
    """The likeliest classes of one image, best first.

    Attributes:
        labels: class indices.
        scores: their probabilities, in [0, 1], by a softmax over all classes; of a model whose images may have several
            (`multi_label`) by a sigmoid of each, so that those from 0.5 are what the image has.
        names: their names; "class 123" where the model has none.
    """

    labels: tuple[int, ...]
    scores: tuple[float, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.scores) == len(self.names):
            raise ValueError(
                f"labels, scores and names have {len(self.labels)}, {len(self.scores)} and {len(self.names)} entries; "
                "give one of each for a class"
            )

    def to_dict(self) -> dict[str, Any]:
        """Lists of plain types, ready for JSON."""
        return {"labels": list(self.labels), "scores": list(self.scores), "names": list(self.names)}

    def __str__(self) -> str:
        return ", ".join(f"{name} {score:.1%}" for name, score in zip(self.names, self.scores, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """The objects found in one image, best first.

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

    def __len__(self) -> int:
        return len(self.names)

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
        kept = np.flatnonzero(self.scores >= np.float32(score)).tolist()
        return Detections(
            boxes_xyxy=self.boxes_xyxy[kept],
            scores=self.scores[kept],
            labels=self.labels[kept],
            names=tuple(self.names[index] for index in kept),
            image_size=self.image_size,
            mask_rles=None if self.mask_rles is None else tuple(self.mask_rles[index] for index in kept),
        )

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
            size = list(self.image_size)
            record["masks"] = [{"size": size, "counts": counts.decode("ascii")} for counts in self.mask_rles]
        return record

    def __str__(self) -> str:
        found = ", ".join(f"{name} {score:.1%}" for name, score in zip(self.names, self.scores, strict=True))
        return found or "no objects"

    def __repr__(self) -> str:
        masks = "without masks" if self.mask_rles is None else "with masks"
        height, width = self.image_size
        return f"<Detections of {len(self)} objects {masks} in {height} x {width} pixels: {self}>"


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationMap:
    """The class of each pixel of one image.

    Attributes:
        labels: uint8 or another whole type, (height, width): class indices from 0. 255, where that is no class, marks
            pixels without one; a prediction has none, the labels of a data set may.
        names: all classes' names by index.
        palette: a (red, green, blue) of 0 to 255 for each class; None where the classes have no colours of their own.
    """

    labels: NDArray[np.integer[Any]]
    names: tuple[str, ...]
    palette: tuple[Colour, ...] | None = None

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "names", tuple(self.names))
        if labels.ndim != 2 or labels.dtype.kind not in "ui":
            raise ValueError(f"labels of shape {labels.shape} and type {labels.dtype}; give whole numbers (H, W)")
        stray = (labels >= len(self.names)) & (labels != IGNORED)
        if labels.size and (labels.min() < 0 or stray.any()):
            wrong = labels[stray | (labels < 0)][0]
            raise ValueError(f"the label {wrong} has no name among the {len(self.names)}; name all classes")
        if self.palette is not None:
            object.__setattr__(self, "palette", tuple(tuple(int(one) for one in colour) for colour in self.palette))
            if len(self.palette) != len(self.names):
                raise ValueError(f"{len(self.palette)} colours for {len(self.names)} classes; give one for each")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SegmentationMap):
            return NotImplemented
        plain = (self.names, self.palette)
        return plain == (other.names, other.palette) and np.array_equal(self.labels, other.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.labels.shape
        return height, width

    @property
    def shares(self) -> dict[int, float]:
        """The part of the image that each class covers, in [0, 1], the largest first; absent classes are left out."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))[: len(self.names)]
        order = np.argsort(-counts, kind="stable").tolist()
        return {label: int(counts[label]) / self.labels.size for label in order if counts[label]}

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ready for JSON: the classes that the image has, the largest first, and the part each covers.

        The map itself is not among them; `visualize.save_label_map` writes it as a PNG.
        """
        shares = self.shares
        return {
            "image_size": list(self.image_size),
            "labels": list(shares),
            "names": [self.names[label] for label in shares],
            "shares": list(shares.values()),
        }

    def __str__(self) -> str:
        return ", ".join(f"{self.names[label]} {share:.1%}" for label, share in self.shares.items()) or "no classes"

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"<SegmentationMap of {height} x {width} pixels: {self}>"


def _shortest(values: NDArray[np.float32]) -> list[float]:
    """Without the digits that float32 does not hold: 0.3 and not 0.30000001192092896; read back, the same bits."""
    return [float(str(value)) for value in values]
