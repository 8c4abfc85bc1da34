"""How a report becomes a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..whole import write_text


def save_report(values: Mapping[str, Any], folder: str | Path) -> Path:
    """Writes report.json into `folder`, which is made where it is missing, and returns its path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    return path
