"""ImageNet's classes: the names of its 1,000, and where they are among the 21,841 of ImageNet-22K.

Imports no torch.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def class_names(dataset: str) -> tuple[str, ...] | None:
    """The class names in head order: 1,000 for "imagenet1k"; None for "imagenet22k", which has no short ones."""
    if dataset == "imagenet1k":
        return tuple(_text("imagenet1k_classes.txt").splitlines())
    if dataset == "imagenet22k":
        return None
    raise ValueError(f"no classes are known for dataset={dataset!r}; use 'imagenet1k' or 'imagenet22k'")


@cache
def imagenet22k_to_1k() -> tuple[int, ...]:
    """For each of ImageNet-1K's classes, its row in the official 21,841-class head (the autumn 2011 release)."""
    return tuple(int(index) for index in _text("imagenet22k_to_1k.txt").split())


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
