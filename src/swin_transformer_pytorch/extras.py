"""Optional dependencies: imported where they are needed, with one clear error where they are missing."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class MissingExtraError(ImportError, ValueError):
    """A feature needs a package that is not installed. The message holds the pip command."""


def require(module: str, *, extra: str) -> ModuleType:
    """Imports `module`; where it is not installed, a `MissingExtraError` names the extra that brings it.

    OpenVINO and NNCF are kept from sending usage data, and from the files of it that they would write at home; Ray is,
    too, unless RAY_USAGE_STATS_ENABLED=1 in the environment asks for it.
    """
    if module.partition(".")[0] == "ray":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with _untold():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(
            f"this needs the package {package!r}: pip install 'swin-transformer-pytorch[{extra}]'"
        ) from error


@contextmanager
def _untold() -> Iterator[None]:
    """Inside this context, `openvino_telemetry` is not to be had.

    What was imported meanwhile goes without for good. OpenVINO sends from its import on, and NNCF writes an id before
    it looks at its own switch; of the other ways one claims to be a CI and one is a file in the user's home.
    """
    name = "openvino_telemetry"
    had = name in sys.modules
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if had:
            sys.modules[name] = before  # type: ignore[assignment]


@contextmanager
def errors_alone(*loggers: str, level: int = logging.ERROR) -> Iterator[None]:
    """Inside this context, loggers of optional packages say nothing below an error, or another level."""
    levels = {logger: logger.level for logger in map(logging.getLogger, loggers)}
    for logger in levels:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
