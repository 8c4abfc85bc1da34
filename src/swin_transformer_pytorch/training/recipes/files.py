"""Recipes as YAML files: found by name, read strictly, with single values replaced. Imports no torch."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import re
import shlex
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ...checks import cut, shown
from ...models.config import Task
from .parts import RecipeError
from .proposals import fitting_recipes
from .tasks import TASKS, AnyRecipe

Tree = dict[str, Any]

# Far beyond any recipe.
_MOST_CHARACTERS, _MOST_ENTRIES, _DEEPEST, _LONGEST = 60_000, 10_000, 16, 4_000
_CHECKPOINTS = (".ckpt", ".safetensors", ".pth", ".pt", ".bin")
_WORDS: dict[Any, str] = {
    str: "name",
    int: "whole number",
    float: "number",
    bool: "true or false",
    types.NoneType: "null",
    typing.Any: "value",
}


def list_recipes(task: Task | None = None) -> list[str]:
    """The names of the recipes in the package, or of those for one task."""
    names = sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))
    return names if task is None else [name for name in names if recipe_task(name) == task]


def recipe_task(name_or_path: str | Path) -> Task:
    """What a recipe's models do; "classification" where it does not say.

    Raises:
        RecipeError: there is no such recipe, or its task is not known.
    """
    source, text = _find(name_or_path)
    return _pop_task(_parse_yaml(source, text), source)


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | Sequence[str] = ()) -> AnyRecipe:
    """Reads one of `list_recipes()` or a YAML file of your own.

    Args:
        name_or_path: a recipe's name, the path of a file that ends in .yaml or .yml, or a run's folder.
        overrides: values that differ: dotted keys, `{"optimizer.lr": 1e-4}`, or a command line's words,
            `["--optimizer.lr", "1e-4"]` or `["--optimizer.lr=1e-4"]`.

    Raises:
        RecipeError: there is no such recipe or key (near ones are named), or a value that is not possible.
    """
    source, text = _find(name_or_path)
    tree = _parse_yaml(source, text)
    kind = TASKS[_pop_task(tree, source)].recipe
    tree = _renamed(tree, kind, source)
    _check_keys(tree, kind, source)
    pairs: Mapping[str, Any] = overrides if isinstance(overrides, Mapping) else parse_words(overrides)
    origin = "overrides" if isinstance(overrides, Mapping) else "the command line"
    for old_key, old_value in pairs.items():
        key = kind.current_key(old_key)
        value = _renamed(old_value, kind, origin, f"{key}.")
        _check_keys(_nest(key, value), kind, origin)
        _set(tree, key, value, kind)
    return _build(tree, kind, source)


def parse_words(words: Sequence[str]) -> dict[str, str]:
    """`["--a.b", "1", "--c=2"]` as `{"a.b": "1", "c": "2"}`."""
    pairs: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            raise RecipeError(f"{word!r} is no recipe value: write --key value, such as --optimizer.lr 1e-4")
        if not equals:
            if not rest:
                raise RecipeError(f"{word} has no value: write {word} VALUE")
            value = rest.pop(0)
        pairs[key] = value
    return pairs


def _find(name_or_path: str | Path) -> tuple[str, str]:
    """Where the recipe was found, and its text."""
    name = str(name_or_path)
    path = Path(name)
    if path.suffix in _CHECKPOINTS:
        run = f"`swin train --resume {shlex.quote(str(path.parent))}` goes on with its run, " * path.is_file()
        raise RecipeError(
            f"{name} is a checkpoint and no recipe: {run}`swin train RECIPE --model.name null --model.weights "
            f"{shlex.quote(name)}` starts a new one from it"
        )
    if path.is_dir() and name not in list_recipes():
        if not (path / "recipe.yaml").is_file():
            fits = " or ".join(f"swin train {one} --data.root {shlex.quote(name)}" for one in fitting_recipes(path))
            raise RecipeError(f"{name} is no run's folder: it has no recipe.yaml; to train on images in it: {fits}")
        path = path / "recipe.yaml"
        name = str(path)
    if isinstance(name_or_path, Path) or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(_MOST_CHARACTERS + 1)
            if len(text) > _MOST_CHARACTERS:
                raise RecipeError(f"{name} is no recipe: it has more than {_MOST_CHARACTERS:,} characters")
            return name, text
        except FileNotFoundError as error:
            fix = "give a YAML file, a recipe's name, or the folder of a run, which has a recipe.yaml"
            raise RecipeError(f"{name} does not exist; {fix}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{name} cannot be read ({error}); give a YAML file or a recipe's name") from error
    names = list_recipes()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(names)}"
        raise RecipeError(f"there is no recipe named {name!r}; {hint} A file of your own must end in .yaml")
    return name, _folder().joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def _folder() -> resources.abc.Traversable:
    return resources.files("swin_transformer_pytorch").joinpath("recipes")


class _ExtentError(yaml.MarkedYAMLError):
    """It is YAML, but no recipe is so large or deep."""


class _BoundedLoader(yaml.SafeLoader):
    """Refuses what no recipe holds before anything is made of it: aliases can stand for more than fits in memory."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self._depth > _DEEPEST:
            self._refuse(f"over {_DEEPEST} groups or lists in each other", parent)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        level = [] if node is None else [node]
        for _ in range(_DEEPEST):
            inner: list[yaml.Node] = []
            for part in level:
                if isinstance(part, yaml.MappingNode):
                    if wrong := [key for key, _ in part.value if not key.tag.endswith((":str", ":merge"))]:
                        self._refuse("a key that is no text", wrong[0])
                    inner += (one for pair in part.value for one in pair)
                elif isinstance(part, yaml.SequenceNode):
                    inner += part.value
                elif len(part.value) > _LONGEST or "\0" in part.value:
                    self._refuse(f"a text of over {_LONGEST:,} characters, or with the character 0", part)
                if len(inner) > _MOST_ENTRIES:
                    self._refuse(f"over {_MOST_ENTRIES:,} entries, aliases written out", part)
            level = inner
        if level:
            self._refuse(f"over {_DEEPEST} groups or lists in each other", level[0])
        return node

    def _refuse(self, what: str, node: yaml.Node) -> NoReturn:
        raise _ExtentError(problem=f"it has {what}", problem_mark=node.start_mark)


def _load_yaml(source: str, text: str) -> Any:
    try:
        return yaml.load(text, _BoundedLoader)
    except (yaml.YAMLError, ValueError) as error:  # the latter: a date that is none
        where = getattr(error, "problem_mark", None)
        line = f" near line {where.line + 1}" if where is not None else ""
        problem = (getattr(error, "problem", None) or str(error)).splitlines()[0]
        raise RecipeError(f"{source} is not valid YAML{line}: {cut(problem)}") from error


def _parse_yaml(source: str, text: str) -> Tree:
    tree = _load_yaml(source, text)
    if not isinstance(tree, dict):
        raise RecipeError(f"{source} holds no recipe: it must start with keys such as model: and data:")
    return tree


def _pop_task(tree: Tree, source: str) -> Task:
    task = tree.pop("task", "classification")
    if not isinstance(task, str) or task not in TASKS:
        raise RecipeError(f"{source}: task={shown(task)} is not known; use one of {', '.join(TASKS)}")
    return task


def _renamed(tree: Any, kind: type[AnyRecipe], source: str, prefix: str = "") -> Any:
    """A copy in which keys that had another name once have today's; what is no group stays as it is."""
    if not isinstance(tree, dict):
        return tree
    renamed: Tree = {}
    for old, value in tree.items():
        path = f"{prefix}{old}"
        key = kind.current_key(path)
        name = old if key == path else key.removeprefix(prefix)
        if name != old and name in tree:
            raise RecipeError(f"{source}: {path} is the old name of {key}, and both are given; keep {key}")
        renamed[name] = _renamed(value, kind, source, f"{key}.")
    return renamed


@functools.cache
def _field_types(group: Any) -> dict[str, Any]:
    types = typing.get_type_hints(group)
    return {item.name: types[item.name] for item in dataclasses.fields(group)}


def _check_keys(tree: Tree, group: type, source: str, prefix: str = "", whole: type | None = None) -> None:
    """Every key must be a field of its group; free-form groups (`dict` fields) are checked by who uses them."""
    types = _field_types(group)
    whole = whole or group
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in types:
            known = [path for path in _all_keys(whole) if path.startswith(prefix)]
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5) or _same_last_word(str(key), whole)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(prefix + name for name in types)}"
            raise RecipeError(f"{source}: unknown key {cut(name)}; {hint}")
        if dataclasses.is_dataclass(types[key]):
            if not isinstance(value, dict):
                raise RecipeError(f"{source}: {name} is {shown(value)}, but it is a group of keys: write {name}.KEY")
            _check_keys(value, typing.cast(type, types[key]), source, f"{name}.", whole)


def _same_last_word(word: str, recipe: type) -> list[str]:
    """Keys of any group whose last word is like this one: the right key under the wrong group."""
    last_words = {path.rpartition(".")[2]: path for path in _all_keys(recipe)}
    return [last_words[near] for near in difflib.get_close_matches(word, last_words, n=1, cutoff=0.6)]


@functools.cache
def _all_keys(recipe: type) -> tuple[str, ...]:
    def walk(group: type, prefix: str) -> list[str]:
        keys = []
        for name, kind in _field_types(group).items():
            keys.append(f"{prefix}{name}")
            if dataclasses.is_dataclass(kind):
                keys += walk(typing.cast(type, kind), f"{prefix}{name}.")
        return keys

    return tuple(walk(recipe, ""))


def _nest(key: str, value: Any) -> Tree:
    first, dot, rest = key.partition(".")
    return {first: _nest(rest, value) if dot else value}


def _set(tree: Tree, key: str, value: Any, kind: Any) -> None:
    *groups, last = key.split(".")
    for name in groups:
        kind = _field_types(kind).get(name) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None
        child = tree.get(name)
        tree[name] = dict(child) if isinstance(child, dict) else {}
        tree = tree[name]
    free_form = not dataclasses.is_dataclass(kind)
    tree[last] = _load_yaml(key, value) if free_form and isinstance(value, str) else value


def _check_texts(value: Any, source: str) -> None:
    """Jsonargparse reads texts as YAML again, "[1, 2]" as a pair; a `RecipeError` for those that it should not."""
    if isinstance(value, str):
        try:
            yaml.compose(value, _BoundedLoader)
        except _ExtentError as error:
            raise RecipeError(f"{source}: {shown(value)} is no value of a recipe: {error.problem}") from error
        except yaml.YAMLError:
            return
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _check_texts(part, source)


def _at(tree: Tree, kind: Any, key: str) -> tuple[Any, Any]:
    """What a tree has at a key, and the type of that field; None for a value that is not there."""
    value: Any = tree
    for name in key.split("."):
        value, kind = value.get(name) if isinstance(value, dict) else None, _field_types(kind)[name]
    return value, kind


def _in_words(kind: Any) -> str:
    """What values a type has, as YAML writes them."""
    *first, last = _choices(kind)
    return f"{', '.join(first)} or {last}" if first else last


def _choices(kind: Any, article: str = "a ") -> list[str]:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return ["a group of keys"]
    if origin is None:
        return [_WORDS[kind] if kind in (bool, types.NoneType) else f"{article}{_WORDS[kind]}"]
    if origin is typing.Literal:
        return [*map(str, parts)]
    if origin in (typing.Union, types.UnionType):
        return [word for part in parts for word in _choices(part, article)]
    words = ["..." if part is ... else "|".join(_choices(part, "")) for part in parts]
    return [f"{{{words[0]}: {words[1]}}}" if origin is dict else f"[{', '.join(words + ['...'] * (origin is list))}]"]


def _build(tree: Tree, kind: type[AnyRecipe], source: str) -> AnyRecipe:
    # jsonargparse turns strings and lists into the fields' types, and refuses what does not fit.
    from jsonargparse import ArgumentParser

    _check_texts(tree, source)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "recipe")
    try:
        parsed = parser.parse_object({"recipe": tree})
    except (argparse.ArgumentError, ValueError, TypeError, OverflowError) as error:
        problem = " ".join(str(error).replace("recipe.", "").replace("Parser key ", "").split())
        if (named := re.match(r'"([\w.]+)":', problem)) and named[1] in _all_keys(typing.cast(type, kind)):
            value, wanted = _at(tree, kind, named[1])
            problem = f"{named[1]}={shown(value)} is not possible: use {_in_words(wanted)}"
        raise RecipeError(f"{source}: {cut(problem, 400)}") from error
    try:
        recipe = parser.instantiate(parsed)["recipe"]
    except ValueError as error:
        raise RecipeError(f"{source}: {error}") from error
    return typing.cast(AnyRecipe, recipe)
