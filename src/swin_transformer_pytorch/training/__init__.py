"""Training: recipes, what each task trains, and the engine that trains it. Its names are imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .recipes.files import list_recipes, load_recipe
    from .recipes.parts import RecipeError
    from .run import TrainResult, train

_HOMES = {
    "recipes.files": ("list_recipes", "load_recipe"),
    "recipes.parts": ("RecipeError",),
    "run": ("TrainResult", "train"),
}

__all__ = ["RecipeError", "TrainResult", "list_recipes", "load_recipe", "train"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
