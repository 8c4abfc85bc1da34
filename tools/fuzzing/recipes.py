"""Recipes: YAML that refers to itself or unfolds without end, absurd values, unknown keys, damaged text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from swin_transformer_pytorch.training.recipes.files import list_recipes, load_recipe

from .case import Case, Gone, damaged, nested, replaced_anywhere

VALUES: tuple[Any, ...] = (None, True, 0, -1, 1.5, 1e300, 10**30, 10**4000, float("nan"), float("inf"), "", "x")
VALUES += ("1e400", "x" * 10**5, [], {}, [1] * 1000, {"a": 1}, [[1]], nested(50), nested(50, key="model"))
VALUES += ("\0", "名", Gone, Gone)


def make(chance: random.Random, folder: Path) -> Case:
    path = folder / "recipe.yaml"
    name = chance.choice(list_recipes())
    recipe = load_recipe(name)
    text, what = _text({"task": recipe.task, **recipe.to_dict()}, chance)
    path.write_bytes(text)

    def read() -> None:
        load_recipe(path).to_dict()

    return Case(what=f"{name}: {what}", read=read, named=(path.name,), intact=what == "nothing")


def _text(tree: dict[str, Any], chance: random.Random) -> tuple[bytes, str]:
    kind = chance.choice(("values", "values", "values", "keys", "bytes", "text", "text", "nothing"))
    whole = yaml.safe_dump(tree)
    if kind == "bytes":
        return damaged(whole.encode(), chance)
    if kind == "text":
        bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
        )
        loop = whole + "model: &m {config: *m}\n"
        texts: tuple[str, ...] = (bomb + "model: *a11\n", loop, "&a [*a]", "&a {model: *a}", "[" * 5000, "{" * 5000)
        texts += ("- " * 3000 + "x", "model: " + "{a: " * 500 + "1" + "}" * 500, "!!python/object/apply:os.abort []")
        texts += (
            "",
            "1",
            "a: b: c",
            "schedule: {epochs: " + "1" * 5000 + "}",
            "schedule: {epochs: 1:1:1}",
            "2001-99-99: 1",
        )
        texts += (
            "? [a]\n: 1\n",
            "task: [1]",
            "task: {a: 1}",
            "seed: 0x" + "f" * 5000,
            "\0",
            "model:\n\tname: x",
            "--- a\n--- b\n",
        )
        text = chance.choice(texts)
        return text.encode(), f"text {text[:40]!r}"
    if kind == "keys":
        groups = [tree, *(value for value in tree.values() if isinstance(value, dict))]
        key = chance.choice(("x", "lr", 5, None, "x" * 5000, "model.name", "", "epochs", True))
        chance.choice(groups)[key] = chance.choice([value for value in VALUES if value is not Gone])
        what = f"key {key!r:.40}"
    elif kind == "values":
        value = chance.choice(VALUES)
        what = f"{replaced_anywhere(tree, value, chance)} = {value!r:.40}"
    else:
        what = "nothing"
    return yaml.safe_dump(tree, allow_unicode=True).encode(), what
