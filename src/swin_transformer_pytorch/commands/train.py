"""Trains or fine-tunes a model by a recipe: a name from the list below, or a YAML file of your own.

  swin train finetune --data.root photos/           your own classes: photos/<class>/*.jpg
  swin train my_recipe.yaml --optimizer.lr 1e-4 --output runs/second
  swin train finetune_detection --data.root data/   your own objects, as your tool exports them
  swin train finetune_segmentation --data.root data/  your own images with a label PNG each
  swin train --resume runs/second                   continues a run that was stopped, from its last checkpoint
  swin train my_recipe.yaml --print-config          prints the whole recipe, with what was changed, as YAML
  swin train my_recipe.yaml --help                  lists the keys, with the values that it has

Checkpoints hold the classes and the preprocessing: `swin predict --weights runs/second/best.ckpt photo.jpg`.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from . import terminal
from .errors import UsageError

if TYPE_CHECKING:
    from ..models.config import Task

FLAGS = ("--resume", "--print-config")
# Each task's main one comes first. Pre-training has its loss alone.
_LOSS = {"loss": "val_loss"}
_SCORES = {
    "top-1": "val_top1",
    "top-5": "val_top5",
    "mAP": "val_map",
    "F1": "val_f1",
    "box AP": "val_box_ap",
    "box AP50": "val_box_ap50",
    "mask AP": "val_mask_ap",
    "mask AP50": "val_mask_ap50",
    "mIoU": "val_miou",
    "pixel accuracy": "val_aacc",
    "PQ": "val_pq",
    "SQ": "val_sq",
    "RQ": "val_rq",
    "PQ of things": "val_pq_things",
    "PQ of stuff": "val_pq_stuff",
}
_COUNTED = " over {} of {val_num_classes} classes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "swin train RECIPE [--KEY VALUE ...] [--resume] [--print-config]"
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name or a YAML file; it comes first")
    parser.add_argument(
        "overrides",
        nargs=argparse.REMAINDER,
        metavar="--KEY VALUE",
        help=argparse.SUPPRESS,  # the usage says it better
    )


def epilog(words: Sequence[str]) -> str:
    """What `swin train --help` says below the options: the recipes and the keys.

    Args:
        words: what else is on the command line; where that begins with a recipe, the keys are its task's.
    """
    from ..training import load_recipe

    recipe = next((word for word in words if not word.startswith("-")), None)
    if recipe is None:
        what = "keys for classification, with the values they have where a recipe is silent"
        return (
            f"recipes:\n{_recipes_help()}\n\n{what}; `swin train RECIPE --help` lists those of a recipe:\n\n"
            f"{_keys_help('classification')}"
        )
    loaded = load_recipe(recipe)
    return f"keys of {recipe}, with the values they have in it:\n\n{_keys_help(loaded.task, loaded.to_dict())}"


def rewrite(words: list[str]) -> list[str]:
    """`--resume FOLDER` is short for the run's own recipe, with --resume and that output."""
    if not words or not words[0].startswith("-"):
        return words
    if words[0] != "--resume":
        raise UsageError(f"which recipe? It comes first: {_with_recipe(words)}")
    if len(words) < 2 or words[1].startswith("-"):
        raise UsageError("which run? Give its folder: swin train --resume runs/second")
    place = words[1]
    return [place, "--resume", *(["--output", place] if os.path.isdir(place) else []), *words[2:]]


def _with_recipe(words: list[str]) -> str:
    """The commands that these words may stand for, by what `data.root` holds."""
    from ..training.recipes.proposals import fitting_recipes

    parts = [part for word in words for part in word.split("=", 1)]
    root = next((value for key, value in zip(parts, parts[1:], strict=False) if key == "--data.root"), None)
    if root is None:
        return (
            f"{shlex.join(['swin', 'train', 'finetune', *words])}, or another of those that `swin train --help` lists"
        )
    return " or ".join(shlex.join(["swin", "train", recipe, *words]) for recipe in fitting_recipes(root))


def run(options: argparse.Namespace) -> int:
    from ..training import load_recipe

    words, flags = split_flags(options.overrides)
    if "--resume" in flags:
        words.append("--resume=true")
    recipe = load_recipe(options.recipe, words)
    if "--print-config" in flags:
        import yaml

        print(yaml.safe_dump(recipe.to_dict(), sort_keys=False), end="")
        return 0
    from ..training import train

    result = train(recipe)
    from ..training.engine.callbacks import telling  # needs Lightning, which `train` has said where it is missing
    from ..training.engine.processes import is_first_process

    if not is_first_process():
        return 0
    metrics = telling(result.metrics)
    table = terminal.table("done", "")
    scores, form = (_LOSS, ".4f") if result.task == "pretraining" else (_SCORES, ".2%")
    for number, (name, value) in enumerate((name, value) for name, value in scores.items() if value in metrics):
        best = f" (best of the run: {result.best_score:{form}}, in {result.best.name})" if number == 0 else ""
        # Runs of before it was counted may be resumed.
        scored = metrics.get(f"{value}_classes")
        counted = "" if scored is None else _COUNTED.format(scored, **metrics)
        table.add_row(name, f"{metrics[value]:{form}}{counted}{best}")
    for name, value in ((name, value.replace("val_", "test_", 1)) for name, value in _SCORES.items()):
        if value in metrics:
            table.add_row(f"{name}, test images", f"{metrics[value]:.2%}")
    whose = "the end" if recipe.trainer.patience is None else "the best validation"
    table.add_row(f"weights of {whose}, measured above", str(result.weights))
    table.add_row("best validation's weights", str(result.best))
    table.add_row("checkpoint to resume from", str(result.last))
    table.add_row("card, recipe, history, curves.png, validation.png", str(result.output))
    terminal.output().print(table)
    for line in result.unusable:
        terminal.notes().print(line)
    use = f"swin predict --weights {result.weights} PHOTO"
    if result.task == "pretraining":
        use = f"swin train finetune --data.root LABELLED --model.name null --model.weights {result.weights}"
    terminal.notes().print(f"next: {use}")
    return 0


def split_flags(words: Sequence[str]) -> tuple[list[str], set[str]]:
    """Parts the words after RECIPE into keys with their values, and the flags that stand alone.

    `--resume true` is a key with its value too, since `resume` is one of the recipe's.
    """
    keys_and_values: list[str] = []
    flags: set[str] = set()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--resume" and rest and rest[0].lower() in ("true", "false"):
            keys_and_values.append(f"{word}={rest.pop(0).lower()}")
        elif word in FLAGS:
            flags.add(word)
        else:
            keys_and_values.append(word)
            if word.startswith("--") and "=" not in word and rest:
                keys_and_values.append(rest.pop(0))
    return keys_and_values, flags


def _recipes_help() -> str:
    """Each recipe in the package with the first line of its comment, task by task."""
    from ..training import list_recipes
    from ..training.recipes.tasks import TASKS

    folder = resources.files("swin_transformer_pytorch").joinpath("recipes")
    lines = []
    for task in TASKS:
        lines.append(f" {task}:")
        for name in list_recipes(task):
            first = folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
            lines.append(f"  {name}\n      {first.lstrip('# ')}" if first.startswith("#") else f"  {name}")
    return "\n".join(lines)


def _keys_help(task: Task, values: dict[str, Any] | None = None) -> str:
    """The keys of a task's recipes, their types and descriptions as the dataclasses state them, and their values.

    Args:
        task: whose.
        values: a recipe's; None for the dataclasses' defaults.
    """
    import jsonargparse

    from ..training.recipes.tasks import TASKS

    parser = jsonargparse.ArgumentParser(add_help=False, usage="")
    parser.add_class_arguments(TASKS[task].recipe, None)
    if values is not None:
        parser.set_defaults({name: value for name, value in values.items() if name != "task"})
    return parser.format_help().partition("\n\n")[2].strip()
