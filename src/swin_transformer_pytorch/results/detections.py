"""The objects found in an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rle import decode_mask


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


def _shortest(values: NDArray[np.float32]) -> list[float]:
    """Without the digits that float32 does not hold: 0.3 and not 0.30000001192092896; read back, the same bits."""
    return [float(str(value)) for value in values]
