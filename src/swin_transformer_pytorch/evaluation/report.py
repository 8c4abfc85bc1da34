"""What all evaluations share: what can be wrong with one, and reports that become files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..names import composed
from ..whole import write_text


class EvaluationError(ValueError):
    """A model and a data set that cannot be evaluated together. The message says what does not fit."""


class Report:
    """A dataclass of figures."""

    def to_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def save(self, folder: str | Path) -> Path:
        """Writes report.json into `folder`, which is made where it is missing, and returns its path."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "report.json"
        write_text(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
        return path


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple | dict):
        return list(value) if isinstance(value, tuple) else dict(value)
    return value.to_dict() if hasattr(value, "to_dict") else value


def told_apart(classes: Sequence[str]) -> list[str]:
    """The names; those that several classes share get their index: "crane [134]"."""
    classes = list(classes)
    return [name if classes.count(name) == 1 else f"{name} [{index}]" for index, name in enumerate(classes)]


def difference(of_data: Sequence[str], of_model: Sequence[str]) -> str:
    """In which way the data's classes are not the model's."""
    known = {composed(name) for name in of_model}
    strangers = [name for name in of_data if composed(name) not in known]
    return f"the model does not know {', '.join(strangers[:10])}" if strangers else "their order or number differs"


def percent(value: float | None) -> str:
    """A figure in [0, 1] as it is shown; "-" for none."""
    return "-" if value is None else f"{value:.1%}"
