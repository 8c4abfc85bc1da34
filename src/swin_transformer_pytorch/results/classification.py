"""The likeliest classes of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..checks import some
from .shown import Shown


@dataclass(frozen=True, kw_only=True, repr=False)
class Classification(Shown):
    """The likeliest classes of one image, best first.

    Attributes:
        labels: class indices.
        scores: their probabilities, in [0, 1], by a softmax over all classes; of a model whose images may have several
            (`multi_label`) by a sigmoid of each, so that those from 0.5 are what the image has.
        names: their names; "class 123" where the model has none.
        present: of a model whose images may have several classes the names of all that this one has, those with a score
            from 0.5, the likeliest first; None of other models.
    """

    labels: tuple[int, ...]
    scores: tuple[float, ...]
    names: tuple[str, ...]
    present: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.scores) == len(self.names):
            raise ValueError(
                f"labels, scores and names have {len(self.labels)}, {len(self.scores)} and {len(self.names)} entries; "
                "give one of each for a class"
            )
        if bad := [score for score in self.scores if not math.isfinite(score)]:
            raise ValueError(f"{len(bad)} of {len(self.scores)} scores are {bad[0]}; give numbers in [0, 1]")

    def to_dict(self) -> dict[str, Any]:
        """Lists of plain types, ready for JSON."""
        record = {"labels": list(self.labels), "scores": list(self.scores), "names": list(self.names)}
        return record if self.present is None else {**record, "present": list(self.present)}

    def columns(self) -> dict[str, Any]:
        """A row a class: its name, its score and its label."""
        return {"name": list(self.names), "score": list(self.scores), "label": list(self.labels)}

    def __str__(self) -> str:
        return ", ".join(self.texts())

    def __repr__(self) -> str:
        return f"<Classification: {some(self.texts(), 5)}>"

    def texts(self) -> list[str]:
        return [f"{name} {score:.1%}" for name, score in zip(self.names, self.scores, strict=True)]
