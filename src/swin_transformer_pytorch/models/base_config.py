"""What the configs of all models but classifiers have, and what models are for. Imports no torch."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from ..backbone.config import ConfigError, SingleWindow, SwinConfig
from ..checks import is_count, require

Task = Literal["classification", "detection", "segmentation", "panoptic", "pretraining"]

DENSE_BACKBONE = SwinConfig(single_window="keep", drop_path_rate=0.2)
check = functools.partial(require, error=ConfigError)


def check_count(name: str, value: object, least: int) -> None:
    """That it is a whole number from `least` to 65,535.

    Raises:
        ConfigError: it is none.
    """
    check(is_count(value, least, 65535), name, value, f"use a whole number of at least {least}, at most 65,535")


@dataclass(frozen=True, kw_only=True)
class WithBackbone:
    """What all have: a backbone, and overrides that may name its fields too.

    Attributes:
        usual_windows: the backbone's `single_window` where nothing else is said.
    """

    usual_windows: ClassVar[SingleWindow] = "keep"

    backbone: SwinConfig = field(default=DENSE_BACKBONE)

    def __post_init__(self) -> None:
        if isinstance(self.backbone, Mapping):
            known = {"single_window": self.usual_windows, **self.backbone}
            object.__setattr__(self, "backbone", SwinConfig.from_dict(known))
        check(isinstance(self.backbone, SwinConfig), "backbone", self.backbone, "give the fields of a SwinConfig")

    def replace(self, **overrides: Any) -> Self:
        """A copy with other values. A name that is no field here is looked up among the backbone's.

        Raises:
            ConfigError: neither has such a field; the message lists both's.
        """
        own = {item.name for item in dataclasses.fields(self)}
        inner = {item.name for item in dataclasses.fields(SwinConfig)}
        for name in overrides:
            if name not in own | inner:
                near = difflib.get_close_matches(name, own | inner, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ConfigError(
                    f"unknown config field {name!r}{hint}; {type(self).__name__} has: {', '.join(sorted(own))}; its "
                    f"backbone: {', '.join(sorted(inner))}"
                )
        changed = dataclasses.replace(self, **{name: value for name, value in overrides.items() if name in own})
        for_backbone = {name: value for name, value in overrides.items() if name not in own}
        return dataclasses.replace(changed, backbone=changed.backbone.replace(**for_backbone))

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as they travel in a checkpoint; `from_dict` reads them back."""
        plain = {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }
        return {**plain, "backbone": self.backbone.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` wrote; a field that is not there has its default."""
        return cls().replace(**values)
