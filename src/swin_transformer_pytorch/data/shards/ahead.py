"""Fetching shards before they are needed, in the processes that read images."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import get_worker_info

from ..errors import StoreError
from .cache import ShardCache
from .errors import ShardError
from .index import Shard

_PAUSE = 0.1  # seconds between two looks at what is wanted
_log = logging.getLogger(__name__)


class Ahead:
    """Which shards a run will need, known to all processes that read for it; each has a thread that fetches them.

    Who makes the order says what is wanted, see `want`. Where nobody has, as in evaluation, a process of a DataLoader
    fetches the shard after the one it reads from. The process that starts others has no thread: what one holds as they
    are made they would hold for ever.

    Args:
        cache: where shards come to.
        shards: of the data set.
    """

    def __init__(self, cache: ShardCache, shards: Sequence[Shard]) -> None:
        self.cache, self.shards = cache, shards
        # How many are wanted, then which, the soonest first: in shared memory, so that running workers follow.
        self._wanted = torch.zeros(1 + len(shards), dtype=torch.int32).share_memory_()
        self._own: list[int] = []
        self._thread: threading.Thread | None = None
        self._pid = 0

    def want(self, shards: Sequence[int]) -> None:
        """Says which shards are needed from now on, the soonest first; others may be removed.

        Raises:
            ShardError: the cache has no room for all of them.
        """
        self._require_room([self.shards[place].size for place in shards])
        self._wanted[0] = 0  # a reader in between finds none, and looks again
        self._wanted[1 : 1 + len(shards)] = torch.tensor(shards, dtype=torch.int32)
        self._wanted[0] = len(shards)

    def require_windows(self, window: int | None) -> None:
        """Raises a `ShardError` where the cache has no room for the largest window twice: read, and fetched."""
        sizes = sorted((shard.size for shard in self.shards), reverse=True)
        self._require_room(sizes[: 2 * (len(sizes) if window is None else window)])

    def _require_room(self, sizes: Sequence[int]) -> None:
        if sum(sizes) > self.cache.limit:
            raise ShardError(
                f"data.shards.cache_gb={self.cache.limit / 1e9:g} is too little: the {len(sizes)} shards of the "
                f"windows that are read here and fetched next take {sum(sizes) / 1e9:.1f} GB; raise it, or lower "
                "data.shards.window"
            )

    def wanted(self) -> list[Shard]:
        """What is, at this moment."""
        places: list[int] = self._wanted[1 : 1 + int(self._wanted[0])].tolist()
        return [self.shards[place] for place in places or self._own]

    def open(self, shard: int) -> int:
        """A handle to read a shard from, see `ShardCache.open`; the thread is started with the first."""
        if get_worker_info() is not None:
            self._own = [shard, *([shard + 1] if shard + 1 < len(self.shards) else [])]
        if (get_worker_info() is not None or int(self._wanted[0])) and (
            self._thread is None or self._pid != os.getpid()
        ):
            self._pid = os.getpid()
            self._thread = threading.Thread(target=_run, args=(weakref.ref(self),), name="shards ahead", daemon=True)
            self._thread.start()
        return self.cache.open(self.shards[shard], lambda: {one.sha256 for one in self.wanted()})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_thread": None}


def _run(of: weakref.ref[Ahead]) -> None:
    """Fetches what is wanted, until nobody has the data set any more. What fails is left to who needs it."""
    failed: set[str] = set()
    while (ahead := of()) is not None:
        wanted = ahead.wanted()
        missing = [shard for shard in wanted if shard.sha256 not in failed and not ahead.cache.has(shard)]
        for shard in missing:
            try:
                ahead.cache.fetch_ahead(shard, {one.sha256 for one in wanted})
            except StoreError:
                failed.add(shard.sha256)  # who needs it tries again, and says so
            except Exception:
                _log.exception("fetching shards ahead has failed, and goes on when they are needed")
                return
            if ahead.wanted() != wanted:
                break
        del ahead
        time.sleep(_PAUSE)
