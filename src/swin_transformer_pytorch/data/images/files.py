"""Image files in folders."""

from __future__ import annotations

import os

from .decode import IMAGE_SUFFIXES


def find_images(folder: str | os.PathLike[str]) -> list[str]:
    """Paths of all images in a folder and the folders inside it, sorted; hidden ones are left out."""
    found: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        # Sorting in place is also what makes os.walk go in that order.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(parent, name) for name in sorted(names) if _is_image(name)]
    return found


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
