"""Where exported files go: checked, with the JSON beside them that says what they are, together or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..whole import replacing
from .graph import ExportError


def check_target(path: str | os.PathLike[str], suffix: str) -> Path:
    """The path; an `ExportError` where it has another suffix or no folder."""
    target = Path(path)
    if target.suffix != suffix:
        raise ExportError(f"{target} must end in {suffix}")
    if not target.parent.is_dir():
        raise ExportError(f"{target.parent} is not a folder: make it, or choose another place for {target.name}")
    return target


@contextmanager
def described(target: Path, description: dict[str, Any], *beside: str) -> Iterator[tuple[Path, ...]]:
    """Gives files to be written for the target and for its namesakes of other endings. With the description, as JSON of
    its name, they are put in place together when all are whole, the target last.
    """
    with ExitStack() as all_or_none:
        endings = (target.suffix, *beside, ".json")
        *files, about = (all_or_none.enter_context(replacing(target.with_suffix(ending))) for ending in endings)
        about.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        yield tuple(files)
