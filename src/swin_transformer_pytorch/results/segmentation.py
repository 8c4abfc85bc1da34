"""The class of each pixel of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import some
from ..colours import Colour
from ..labels import IGNORED
from ..names import composed, did_you_mean
from .shown import Shown


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationMap(Shown):
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
    def areas(self) -> dict[int, int]:
        """The pixels of each class by its index, the largest first; absent classes are left out."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))[: len(self.names)]
        order = np.argsort(-counts, kind="stable").tolist()
        return {label: int(counts[label]) for label in order if counts[label]}

    @property
    def shares(self) -> dict[int, float]:
        """The part of the image that each class covers, in [0, 1], likewise."""
        return {label: area / self.labels.size for label, area in self.areas.items()}

    def mask(self, which: int | str) -> NDArray[np.bool_]:
        """The pixels of one class, (height, width).

        Args:
            which: its index or its name; of classes that share a name, all.

        Raises:
            ValueError: there is no such class.
        """
        if isinstance(which, str):
            labels = [label for label, name in enumerate(self.names) if composed(name) == composed(which)]
            hint = did_you_mean(which, self.names) or f"the classes are {some(self.names)}"
        else:
            labels = [which] if 0 <= which < len(self.names) else []
            hint = f"use 0 to {len(self.names) - 1}"
        if not labels:
            raise ValueError(f"there is no class {which!r}: {hint.strip()}")
        return np.isin(self.labels, labels)

    def columns(self) -> dict[str, Any]:
        """A row a class that the image has, the largest first: its name, its pixels, their share and its label."""
        areas, shares = self.areas, self.shares
        names = [self.names[label] for label in areas]
        return {"name": names, "pixels": [*areas.values()], "share": [*shares.values()], "label": [*areas]}

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
        return ", ".join(self.texts()) or "no classes"

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"<SegmentationMap of {height} x {width} pixels: {some(self.texts(), 5) or 'no classes'}>"

    def texts(self) -> list[str]:
        return [f"{self.names[label]} {share:.1%}" for label, share in self.shares.items()]
