"""What can be wrong with shards."""

from __future__ import annotations

from ..errors import StoreError


class ShardError(StoreError):
    """A shard that is missing, is not what the index tells of, or has no room. The message names it and the fix."""
