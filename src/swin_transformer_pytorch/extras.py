"""Optional dependencies: imported where they are needed, with one clear error where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtraError(ImportError, ValueError):
    """A feature needs a package that is not installed. The message holds the pip command."""


def require(module: str, *, extra: str) -> ModuleType:
    """Imports `module`; where it is not installed, a `MissingExtraError` names the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(
            f"this needs the package {package!r}: pip install 'swin-transformer-pytorch[{extra}]'"
        ) from error
