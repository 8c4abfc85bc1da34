"""Whether images are shards, and whether here or in a store. Imports neither torch nor numpy."""

from __future__ import annotations

import os
from pathlib import Path

MANIFEST = "shards.json"
"""The file that says which shards there are."""

CLASSES = "classes.txt"
"""Class names by index, one a line, beside tar files."""

READING = os.O_RDONLY | getattr(os, "O_BINARY", 0)
"""How a shard is opened; the latter is Windows'."""


def is_url(root: str) -> bool:
    """Whether it is the address of a store, and no path on this machine."""
    return "://" in root and not root.startswith("file://")


def is_named(source: str) -> bool:
    """Whether it names tar files themselves, also by numbers in braces, and not where they are."""
    return source.endswith(".tar")


def local_path(root: str) -> Path:
    """The folder of a root that is no address."""
    return Path(root.removeprefix("file://"))


def has_shards(root: str | os.PathLike[str]) -> bool:
    """Whether it is a folder with an index of shards; the address of a store is taken for one."""
    text = os.fspath(root)
    return is_url(text) or (local_path(text) / MANIFEST).is_file()
