"""Parts of a model that a run leaves as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ..recipes.parts import Freeze, RecipeError

if TYPE_CHECKING:
    from ...models.build import Model


def freeze(model: Model, what: Freeze | None) -> None:
    """Keeps parameters from learning, in place, and what lies wholly in frozen parts in evaluation mode.

    So frozen batch norms and stochastic depth do as they do in use, and no gradient is computed before the first part
    that learns.

    Args:
        model: a classifier, detector or segmenter.
        what: a recipe's `trainer.freeze`.

    Raises:
        RecipeError: there are not as many stages.
    """
    if what is None:
        return
    backbone: Any = getattr(model, "backbone", model)
    if isinstance(what, int):
        if what > len(backbone.layers):
            raise RecipeError(f"trainer.freeze={what}, but the backbone has {len(backbone.layers)} stages; use fewer")
        for part in (backbone.patch_embed, *backbone.layers[:what]):
            part.requires_grad_(False)
    elif what == "backbone" and backbone is not model:
        backbone.requires_grad_(False)
    else:
        learning = {name for group in model.class_parameters() for name in group.names}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in learning)
    _rest(model)


def _rest(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
    elif parameters:
        for child in module.children():
            _rest(child)
