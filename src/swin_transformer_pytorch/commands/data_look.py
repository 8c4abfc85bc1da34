"""What `swin data` knows of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..models.config import Task

MOST_SEGMENTS = 100
"""What a Mask2Former finds in an image at most, unless it is told otherwise."""


@dataclass(kw_only=True)
class Part:
    """One part of a data set.

    Attributes:
        samples: the data set, whose `paths` are the images' files.
        counts: objects, segments, pixels or images of each class, in those that were read.
        read: how many images were.
        sizes: (height, width) of these.
        problems: what is wrong with those that cannot be used.
        empty: images without an object, or without a pixel of a class.
        tiny: objects with a side below 8 pixels.
        ignored: pixels that do not count.
        crowds: segments that are groups of things.
        many: images with more segments than a Mask2Former has queries.
    """

    samples: Any
    counts: Counter[str] = field(default_factory=Counter)
    read: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    empty: int = 0
    tiny: int = 0
    ignored: int = 0
    crowds: int = 0
    many: int = 0


@dataclass(frozen=True, kw_only=True)
class Look:
    """A folder as the data of a task.

    Attributes:
        task: which.
        layout: what the folder's layout is called.
        unit: what is counted of a class.
        parts: "train", "val", "test", or "all" for one that holds the first two.
    """

    task: Task
    layout: str
    unit: str
    parts: Mapping[str, Part]

    @property
    def classes(self) -> list[str]:
        """Those of all parts."""
        return list(dict.fromkeys(name for part in self.parts.values() for name in part.samples.classes))

    @property
    def things(self) -> set[str]:
        """Of segments, the names of the classes of things."""
        return {part.samples.classes[label] for part in self.parts.values() for label in part.samples.things}

    @property
    def is_unlabelled(self) -> bool:
        """Whether it is of images without labels."""
        return self.task == "classification" and not self.classes
