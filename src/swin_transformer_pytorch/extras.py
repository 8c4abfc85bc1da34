"""Optional dependencies: imported where they are needed, with one clear error where they are missing."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def errors_alone(*loggers: str) -> Iterator[None]:
    """Inside this context, loggers of optional packages say nothing below an error."""
    levels = {logger: logger.level for logger in map(logging.getLogger, loggers)}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
