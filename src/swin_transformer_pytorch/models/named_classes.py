"""What a model's classes are after its layers were exchanged: names follow the layers, and no file lies about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..backbone.config import ConfigError
from .description import check_length, describe

_Shapes = dict[str, tuple[int, ...]]


class NamedClasses(nn.Module):
    """A classifier, detector or segmenter: `class_layers` of its parts are the layers whose outputs are classes."""

    config: Any
    preprocessing: Any
    name: str | None

    @property
    def num_classes(self) -> int:
        """How many classes it has."""
        return int(self.config.num_classes)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Their names, or None: also where another layer was put in the place of one that they were the classes of."""
        names = self._classes
        return names if names is not None and len(names) == self.num_classes and self._are_named() else None

    @classes.setter
    def classes(self, names: Sequence[str] | None) -> None:
        check_length("class names", names, self.num_classes)
        self._classes = None if names is None else tuple(names)
        for layer in self._class_layers().values():
            layer.gives_named_classes = True  # type: ignore[assignment]  # a mark that copies keep

    def metadata(self) -> dict[str, Any]:
        """What a checkpoint must hold for the model to be rebuilt from it alone. Plain types only.

        Raises:
            ConfigError: layers were exchanged, so that the file could not be loaded again.
        """
        expected, found = self.expected_shapes(), shapes_of(self)
        for what, names in (
            ("is missing", expected.keys() - found.keys()),
            ("is not part of it", found.keys() - expected.keys()),
            ("has another shape", {name for name in expected.keys() & found.keys() if expected[name] != found[name]}),
        ):
            if names:
                raise ConfigError(
                    f"layers of this {type(self).__name__} were exchanged, so no file of it could be loaded again: "
                    f"{min(names)} {what}. Put them back first (merge adapters, remove parametrizations; for other "
                    "classes call model.reset_classifier(num_classes, classes=...)), or save its state_dict() without "
                    "a description"
                )
        return describe(self).to_dict()

    def check_class_layers(self) -> None:
        """That layers have as many outputs as they were made with.

        Raises:
            ConfigError: one was put in whose outputs are other classes.
        """
        for name, layer in self._class_layers().items():
            made, has = self._outputs[name], count_outputs(layer)
            if None not in (made, has) and made != has:
                raise ConfigError(
                    f"{name} was exchanged: it has {has} outputs, and num_classes={self.num_classes} takes {made}. "
                    "Call model.reset_classifier(num_classes, classes=...), which makes all such layers anew, and put "
                    "layers of your own in after it"
                )

    def settle(self, classes: Sequence[str] | None) -> None:
        """Takes the layers as they are for those of `classes`."""
        self._outputs = {name: count_outputs(layer) for name, layer in self._class_layers().items()}
        self._shapes = shapes_of(self)
        self.classes = classes

    def expected_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of the state dict of a model that is built from this one's description."""
        return self._shapes

    def _class_parameter_names(self, *heads: type[nn.Module]) -> tuple[str, ...]:
        """Those of the class layers of heads of these kinds, the one with a row a class first."""
        layers = self._class_layers(*heads).items()
        return tuple(f"{place}.{name}" for place, layer in layers for name, _ in layer.named_parameters())

    def _class_layers(self, *heads: type[nn.Module]) -> dict[str, nn.Module]:
        return {
            f"{place}.{name}".lstrip("."): part.get_submodule(name)
            for place, part in self.named_modules()
            if isinstance(part, heads or nn.Module)
            for name in getattr(type(part), "class_layers", ())
        }

    def _are_named(self) -> bool:
        """A layer that names were given for may since be inside another, or have been quantised."""
        return all(
            any(hasattr(part, "gives_named_classes") or type(part).__module__.startswith("torch.ao.") for part in parts)
            for parts in (layer.modules() for layer in self._class_layers().values())
        )


def count_outputs(layer: nn.Module) -> int | None:
    """0 of an identity, which stands for no layer; None where a layer does not say."""
    if isinstance(layer, nn.Identity):
        return 0
    if isinstance(layer, nn.Sequential):
        return count_outputs(layer[-1]) if len(layer) else 0
    found = getattr(layer, "out_features", getattr(layer, "out_channels", None))
    return found if isinstance(found, int) else None


def shapes_of(module: nn.Module) -> _Shapes:
    """Of what its state dict holds."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
