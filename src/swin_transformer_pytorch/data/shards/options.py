"""How shards are read. Imports no torch: recipes and the command line read it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ...checks import is_count, is_number, require

_GB = 10**9


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How shards are shuffled and, those of a store, kept on this machine.

    Attributes:
        window: shards whose images are shuffled among each other; the shards themselves are shuffled as well. null for
            all of them: any order of the images is then as likely as any other.
        lanes: parts of the order that are read side by side, each of other shards, and each by its share of a step's
            images: as many as machines train, so that a shard is fetched by one of them. It must divide the images of
            a step on all devices.
        cache: the folder for shards of a store; null for "shards" in $SWIN_CACHE or the user's cache folder.
        cache_gb: the most that they take there, in GB (10^9 bytes); what was not read for longest is removed.
    """

    window: int | None = 16
    lanes: int = 1
    cache: str | None = None
    cache_gb: float = 50.0

    def __post_init__(self) -> None:
        ok = self.window is None or is_count(self.window, 1, 10**6)
        require(ok, "data.shards.window", self.window, "use a number of shards, at least 1, or null for all")
        require(is_count(self.lanes, 1, 10**5), "data.shards.lanes", self.lanes, "use a whole number of at least 1")
        ok = is_number(self.cache_gb) and self.cache_gb > 0
        require(ok, "data.shards.cache_gb", self.cache_gb, "use a number of GB above 0")

    @property
    def cache_folder(self) -> Path:
        """Where shards of a store are kept."""
        if self.cache is not None:
            return Path(self.cache)
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swin-transformer-pytorch"
        return Path(os.environ.get("SWIN_CACHE") or base) / "shards"

    @property
    def cache_bytes(self) -> int:
        """The most that they take."""
        return int(self.cache_gb * _GB)
