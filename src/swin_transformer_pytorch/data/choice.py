"""Some of a data set's classes, or several as one: what `data.classes` asks for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from ..names import by_name
from .errors import DataError, some

ClassChoice = Mapping[str, Sequence[str]] | Sequence[str]
"""Names of the classes to keep, or {new name: the names that become it}; "*" stands for all that no other entry has."""


def require_two_classes(choice: ClassChoice | None) -> None:
    """Raises a `DataError` where a choice leaves a classifier of one class an image nothing to tell apart."""
    if choice is not None and len(choice) == 1:
        raise DataError(
            f"data.classes={choice!r:.200} makes one class, and telling classes apart takes two or more: name another, "
            'or give all the rest a name, as {rest: ["*"]} does'
        )


def choose_classes(
    names: Sequence[str], choice: ClassChoice | None, *, of: object, strict: bool = True
) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """The class names by index that a choice leaves, and for each of `names` its index among them, or None.

    Args:
        names: the data's own classes.
        choice: what to keep; None keeps all.
        of: what messages call the data.
        strict: whether each name in the choice must be one of the data's; a part of it may lack some.

    Raises:
        DataError: the choice is empty, names no class of the data, or one of them twice.
    """
    if choice is None:
        return tuple(names), tuple(range(len(names)))
    groups = choice if isinstance(choice, Mapping) else {name: [name] for name in choice}
    place = by_name({name: index for index, name in enumerate(names)})
    index_of: list[int | None] = [None] * len(names)
    if not groups or len(groups) < len(choice):
        raise DataError(f"data.classes={choice!r:.200} names {'a class twice' if groups else 'none'}; name each once")
    for index, olds in enumerate(groups.values()):
        for old in olds:
            where = place(old)
            if where is not None and index_of[where] is not None:
                raise DataError(f"data.classes has the class {old!r:.60} twice; each becomes one class at most")
            if where is not None:
                index_of[where] = index
            elif strict and old != "*":
                near = difflib.get_close_matches(old, names, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise DataError(f"data.classes names {old!r:.60}, and {of} has {some(names)}; {hint}use these names")
    for index, olds in enumerate(groups.values()):
        if "*" in olds:
            index_of = [index if one is None else one for one in index_of]
    if strict and (empty := [new for index, new in enumerate(groups) if index not in index_of]):
        raise DataError(f"data.classes leaves nothing for {some(empty)}; name classes of {of}: {some(names)}")
    return tuple(groups), tuple(index_of)
