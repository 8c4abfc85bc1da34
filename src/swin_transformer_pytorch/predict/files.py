"""Predictions for files, folders and globs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data.errors import ImageError
from ..data.images.files import find_images
from .predictor import Predictor
from .task import Prediction


def predict_files(
    predictor: Predictor, patterns: Sequence[str | os.PathLike[str]], batch_size: int | None = None
) -> Iterator[tuple[str, Prediction | ImageError]]:
    """Predicts for files, whatever happens to some of them.

    Args:
        predictor: what predicts.
        patterns: files; folders, which are searched through for images; globs, in which ** stands for any folders.
        batch_size: images at once; None for the predictor's own.

    Yields:
        Each file once, in the order of the patterns and sorted within one, with its result or the `ImageError` that
        says what is wrong with it. A pattern that matches nothing comes with an `ImageError` of its own.
    """
    size = batch_size if batch_size is not None else predictor.batch_size
    if size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    pending: list[tuple[str, Any]] = []
    for path, problem in _expand(patterns):
        try:
            pending.append((path, problem or predictor.prepare(path)))
        except ImageError as error:
            pending.append((path, error))
        if len(pending) >= size:
            yield from _flush(predictor, pending)
            pending = []
    yield from _flush(predictor, pending)


def _flush(predictor: Predictor, pending: list[tuple[str, Any]]) -> Iterator[tuple[str, Prediction | ImageError]]:
    inputs = [one for _, one in pending if not isinstance(one, ImageError)]
    results = iter(predictor.predict_prepared(inputs) if inputs else [])
    for path, one in pending:
        yield path, one if isinstance(one, ImageError) else next(results)


def _expand(patterns: Sequence[str | os.PathLike[str]]) -> Iterator[tuple[str, ImageError | None]]:
    """(file, None) for each file that the patterns stand for, or (pattern, error) for one that stands for none."""
    seen: set[str] = set()
    for pattern in (os.fspath(one) for one in patterns):
        found: list[str] = []
        # A file's own name may hold the signs of a glob.
        matches = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern, recursive=True))
        for match in matches:
            found += find_images(match) if os.path.isdir(match) else [match]
        if not found and glob.has_magic(pattern):
            yield pattern, ImageError(f"{pattern} matches no images; check the pattern (looked from {Path.cwd()})")
        elif not found and matches:
            yield pattern, ImageError(f"{pattern} is a folder without images; give one that has some")
        elif not found:
            found = [pattern]  # let the reader say what is wrong with it
        for path in found:
            # A file that several links lead to is one image.
            if os.path.realpath(path) not in seen:
                seen.add(os.path.realpath(path))
                yield path, None
