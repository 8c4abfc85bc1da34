"""One training in a folder at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ... import whole
from ..recipes.parts import RecipeError

LOCK = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within it no other process can train in `folder`. A `RecipeError` says which one does."""

    def refusal(holder: str) -> RecipeError:
        return RecipeError(
            f"another training is running in {folder} ({holder}): wait for its end, or choose another --output"
        )

    with whole.locked(folder / LOCK, refusal) as handle:
        with suppress(OSError):  # of a full disk; who holds it is for messages only
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()}\n".encode())
        yield
