"""What a model is: all that must be known to build it, and what a checkpoint says of itself. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ..backbone.config import ConfigError, SwinConfig
from ..checks import is_count, require
from ..colours import Colour
from ..weights.preprocessing import DensePreprocessing, Preprocessing, preprocessing_from_dict
from .config import TASKS, DenseConfig, MaskedConfig, ModelConfig, Task, config_from_dict, task_of

PAINTED: tuple[Task, ...] = ("segmentation", "panoptic")
"""The tasks whose classes may have colours of their own."""

METADATA = "swin_transformer_pytorch"
"""Under this name an exported file holds its description, as JSON."""


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """All that a model is but its weights. `models.build.build` makes the model of it.

    Attributes:
        config: the architecture, whose type says the task.
        num_classes: outputs of a classifier's head, 0 for none; a detector's and a segmenter's are their config's own,
            and masked pre-training has none.
            None, which is not kept: 1000, or the config's.
        multi_label: classification: whether an image may have any number of the classes.
        classes: the classes' names by index, or None.
        palette: segmentation, panoptic: the colours, red, green and blue of 0 to 255, that they are drawn in, or None.
        preprocessing: what the weights expect of an image, or None.
        name: the variant's official name, or None.

    Raises:
        ConfigError: the parts do not fit each other.
    """

    config: ModelConfig
    num_classes: int = cast(int, None)
    multi_label: bool = False
    classes: tuple[str, ...] | None = None
    palette: tuple[Colour, ...] | None = None
    preprocessing: Preprocessing | DensePreprocessing | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        own = 1000 if isinstance(self.config, SwinConfig) else self.config.num_classes
        if self.num_classes is None:
            object.__setattr__(self, "num_classes", own)
        check_num_classes(self.num_classes)
        if not isinstance(self.config, SwinConfig) and self.num_classes != own:
            raise ConfigError(f"it is of num_classes={own} and of {self.num_classes}; leave the latter out")
        check_length("class names", self.classes, self.num_classes)
        check_length("colours", self.palette, self.num_classes)
        if self.palette is not None and self.task not in PAINTED:
            raise ConfigError(f"a palette is for {' and '.join(PAINTED)}, and this model for {self.task}; leave it out")
        if self.multi_label not in ((False, True) if self.task == "classification" else (False,)):
            raise ConfigError(
                f"multi_label={self.multi_label!r:.60} of {self.task}; it is true or false, of a classifier"
            )
        kind = DensePreprocessing if isinstance(self.config, DenseConfig) else Preprocessing
        if not isinstance(self.preprocessing, kind | None):
            raise ConfigError(f"preprocessing={self.preprocessing!r} is not for {self.task}; give a {kind.__name__}")

    @property
    def task(self) -> Task:
        """What the model does."""
        return task_of(self.config)

    def with_num_classes(self, num_classes: int) -> ModelDescription:
        """The same model for that many classes, which have no names yet.

        Raises:
            ConfigError: it is one of masked pre-training, which has none.
        """
        if isinstance(self.config, MaskedConfig) and num_classes:
            raise ConfigError(
                f"num_classes={num_classes} of a model of masked pre-training, which has none; leave it out"
            )
        config = self.config.replace(num_classes=num_classes) if isinstance(self.config, DenseConfig) else self.config
        return dataclasses.replace(self, config=config, num_classes=num_classes, classes=None, palette=None)

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold for the model to be rebuilt from it alone. Plain types only."""
        plain = {
            "format": "swin-transformer-pytorch",
            "format_version": 1,
            "task": self.task,
            "name": self.name,
            "config": self.config.to_dict(),
            "num_classes": self.num_classes,
            "classes": None if self.classes is None else list(self.classes),
            "preprocessing": None if self.preprocessing is None else self.preprocessing.to_dict(),
        }
        if self.multi_label:
            plain["multi_label"] = True
        if self.task in PAINTED:
            plain["palette"] = None if self.palette is None else [list(colour) for colour in self.palette]
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelDescription:
        """Reads what `to_dict` wrote.

        Raises:
            ConfigError: there is no such task, or the parts do not fit each other.
            PreprocessingError: the preprocessing is none.
        """
        if values["task"] not in TASKS:
            raise ConfigError(f"task={values['task']!r}; this version has: {', '.join(TASKS)}")
        task: Task = values["task"]
        classes, palette, preprocessing = values["classes"], values.get("palette"), values["preprocessing"]
        return cls(
            config=config_from_dict(task, values["config"]),
            num_classes=values["num_classes"],
            multi_label=values.get("multi_label", False),
            classes=None if classes is None else tuple(classes),
            palette=None if palette is None else tuple((red, green, blue) for red, green, blue in palette),
            preprocessing=None if preprocessing is None else preprocessing_from_dict(preprocessing),
            name=values["name"],
        )


def check_length(what: str, values: Sequence[Any] | None, num_classes: int) -> None:
    """That there is one value a class, if there are any.

    Raises:
        ConfigError: there are more or fewer.
    """
    if values is not None and len(values) != num_classes:
        raise ConfigError(f"{len(values)} {what} for num_classes={num_classes}; give one a class")


def check_num_classes(num_classes: object) -> None:
    """That it is a number of classes.

    Raises:
        ConfigError: it is none.
    """
    fix = "use a whole number of at least 0 (0: no head, pooled features)"
    require(is_count(num_classes, 0), "num_classes", num_classes, fix, error=ConfigError)


class DescribesItself(Protocol):
    """The attributes of a model that a checkpoint holds."""

    name: str | None
    classes: tuple[str, ...] | None

    @property
    def num_classes(self) -> int: ...
    @property
    def config(self) -> ModelConfig: ...
    @property
    def preprocessing(self) -> Preprocessing | DensePreprocessing | None: ...


def describe(model: DescribesItself) -> ModelDescription:
    """The description of a model as it is now."""
    return ModelDescription(
        config=model.config,
        num_classes=model.num_classes,
        multi_label=getattr(model, "multi_label", False),
        classes=model.classes,
        palette=getattr(model, "palette", None),
        preprocessing=model.preprocessing,
        name=model.name,
    )
