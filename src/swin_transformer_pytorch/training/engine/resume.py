"""Whether a checkpoint can be taken up by a run, and what that run had chosen."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...checks import plural
from ...names import composed
from ...weights.checkpoint import DENSE_TASKS
from ..recipes.parts import RecipeError
from ..recipes.tasks import AnyRecipe

if TYPE_CHECKING:
    from ...models.build import Model

_log = logging.getLogger(__name__)

# What may differ without changing what the run computes.
_PLACES = tuple(f"data.{split}_{part}" for split in ("train", "val") for part in ("images", "annotations", "labels"))
_FREE = (
    "output",
    "resume",
    "data.root",
    "data.allow_outside",
    *_PLACES,
    "data.num_workers",
    "data.shards.cache",
    "data.shards.cache_gb",
    "trainer.device",
    "trainer.checkpoint_every_steps",
    "trainer.checkpoint_every_minutes",
    "trainer.loggers",
    "trainer.timeout_minutes",
)
# What together says how many images a step has.
_SHARES = ("trainer.devices", "trainer.num_nodes", "trainer.accumulate", "data.batch_size")
_OR_MOVED = ", or other trainer.devices with as many images a step, by data.batch_size or trainer.accumulate"
# What a recipe may leave to the run, and the value that says so.
_AUTO = (
    *("scale", "image_size", "batch_size"),
    *(f"augmentation.{name}" for name in ("scale", "scales", "max_long", "crop_size")),
)
_OPEN = {
    **dict.fromkeys(("model.in_channels", "schedule.epochs"), "auto"),
    **dict.fromkeys(("schedule.warmup_epochs", "schedule.warmup_steps")),
    **{f"data.{name}": "auto" for name in _AUTO},
}


def with_choices_of(recipe: AnyRecipe, held: dict[str, Any]) -> AnyRecipe:
    """The recipe with what it leaves open as the run had chosen it whose recipe is `held`."""
    chosen, now = _flat(held), _flat(recipe.to_dict())
    kept = {key: chosen[key] for key, value in _OPEN.items() if key in chosen and now.get(key, ...) == value}
    return recipe.replace({key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()})


def describe_rest(checkpoint: dict[str, Any], patience: int | None, epochs: int) -> str:
    """What a run has yet to do, in words that go after "resuming"."""
    done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    worse = checkpoint["callbacks"].get("Checkpoints", {}).get("worse", 0)
    if done >= epochs:
        return "a run that is finished: nothing is left to do"
    if patience is not None and worse >= patience:
        ended = f"a run that trainer.patience={patience} has ended after epoch {done} of {epochs}"
        return f"{ended}: nothing is left to do"
    return f"at epoch {done + 1} of {epochs}"


def check_resumable(checkpoint: dict[str, Any], path: Path, recipe: AnyRecipe, model: Model) -> None:
    """Raises an error that names the first difference that would make the rest of the run another one."""
    anew = f"start a new run in another --output with {'--model.name null ' * (recipe.model.name is not None)}"
    anew += f"--model.weights {path}"
    before, now = ([*map(composed, names or ())] for names in (checkpoint["swin"]["classes"], model.classes))
    if before != now:
        changed = sorted(set(before) ^ set(now))
        raise RecipeError(
            f"{path} was trained on other classes than the data has now (only one of them has: "
            f"{', '.join(changed[:10]) or 'the same, in another order'}); give the same data, or {anew}"
        )
    # A key that the package did not have when the run began was what it is by default now.
    held = {recipe.current_key(key): value for key, value in _flat(checkpoint["recipe"]).items()}
    old, new = {**_flat(_defaults(recipe)), **held}, _flat(recipe.to_dict())
    # What is open by default was chosen by the data, before there was a key for it; the model's own config tells.
    newer = {key for key in _OPEN if key in old and key not in held}
    moved = _moved(old, new, recipe)
    free = {*_FREE, *newer, *(_SHARES if moved else ())}
    for key in sorted((old.keys() | new.keys()) - free):
        if old.get(key) != new.get(key):
            raise RecipeError(
                f"{key} was {old.get(key)!r} in the run that {path} holds and is {new.get(key)!r} now; give it the "
                f"same value to resume{_OR_MOVED * (key in _SHARES)}, or {anew}"
            )
    if checkpoint["swin"]["config"] != model.config.to_dict():
        raise RecipeError(f"{path} holds a model of another architecture than the recipe's; start a new run elsewhere")


def _moved(old: dict[str, Any], new: dict[str, Any], recipe: AnyRecipe) -> bool:
    """Whether the run goes on with as many images a step, on other devices. It sees the same ones in the same order;
    this is said, with what is not the same.
    """
    before, now = (math.prod(side[key] for key in _SHARES[:2]) for side in (old, new))
    of_step = {math.prod(side[key] for key in _SHARES) for side in (old, new)}
    if before == now or len(of_step) > 1:
        return False
    # There an epoch is one of batches, whose images are of like shape.
    if recipe.task in DENSE_TASKS and old["data.batch_size"] != new["data.batch_size"]:
        return False
    # Lanes of shards are shared out among the images that all devices take at once, without accumulation.
    at_once = {before * old["data.batch_size"], now * new["data.batch_size"]}
    if new.get("data.shards.lanes", 1) > 1 and len(at_once) > 1:
        return False
    _log.warning(
        "resumed on %s, %d before: the same images a step; dropout, mixing and the like draw other numbers, as they do "
        "for each device",
        plural(now, "device"),
        before,
    )
    return True


def _defaults(group: Any) -> dict[str, Any]:
    """What a recipe has where it is silent, of the keys that have a default."""
    defaults: dict[str, Any] = {}
    for item in dataclasses.fields(group):
        if item.default_factory is not dataclasses.MISSING:
            default: Any = item.default_factory()
            defaults[item.name] = default if isinstance(default, dict) else dataclasses.asdict(default)
        elif item.default is not dataclasses.MISSING:
            defaults[item.name] = item.default
        else:
            defaults[item.name] = _defaults(getattr(group, item.name))
    return defaults


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat
