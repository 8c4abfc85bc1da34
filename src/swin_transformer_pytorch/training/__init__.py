"""Training: recipes, what each task trains, and the engine that trains it. Its names are imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recipes.files import list_recipes, load_recipe
    from .recipes.parts import RecipeError
    from .run import TrainResult, train

_HOMES = {
    "list_recipes": "recipes.files",
    "load_recipe": "recipes.files",
    "RecipeError": "recipes.parts",
    "TrainResult": "run",
    "train": "run",
}

__all__ = ["RecipeError", "TrainResult", "list_recipes", "load_recipe", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
