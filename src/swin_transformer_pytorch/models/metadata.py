"""What a model says of itself in a checkpoint."""

from __future__ import annotations

from typing import Any, Protocol

from ..backbone.config import SwinConfig
from ..weights.preprocessing import DensePreprocessing, Preprocessing
from .config import DetectorConfig, SegmenterConfig


class DescribesItself(Protocol):
    """The attributes of a model that a checkpoint holds."""

    task: str
    name: str | None
    num_classes: int
    classes: tuple[str, ...] | None

    @property
    def config(self) -> SwinConfig | DetectorConfig | SegmenterConfig: ...
    @property
    def preprocessing(self) -> Preprocessing | DensePreprocessing | None: ...


def describe(model: DescribesItself) -> dict[str, Any]:
    """What a checkpoint must hold for the model to be rebuilt from it alone. Plain types only."""
    return {
        "format": "swin-transformer-pytorch",
        "format_version": 1,
        "task": model.task,
        "name": model.name,
        "config": model.config.to_dict(),
        "num_classes": model.num_classes,
        "classes": list(model.classes) if model.classes is not None else None,
        "preprocessing": model.preprocessing.to_dict() if model.preprocessing is not None else None,
    }
