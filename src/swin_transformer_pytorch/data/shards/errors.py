"""What can be wrong with shards."""

from __future__ import annotations

from ..errors import DataError


class ShardError(DataError):
    """A shard that is missing, is not what the index tells of, or cannot be fetched. The message names it and the fix.

    It stops a run, unlike an image that cannot be used. Where it comes out of a process that reads images, PyTorch
    makes another of it, with the traceback as its message, of which this keeps what the first one said.
    """

    def __init__(self, message: str) -> None:
        mark = f"{type(self).__name__}: "
        super().__init__(message.rpartition(mark)[2].strip() if message.startswith("Caught ") else message)
