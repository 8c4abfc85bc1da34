"""Predictions for files, folders and globs."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..addresses import is_address
from ..data.errors import ImageError
from ..data.images.bands import tell_white_level
from ..data.images.decode import ImageSource
from ..data.images.files import find_inputs
from ..data.images.remote import fetched
from .predictor import Predictor
from .task import Prediction


def predict_files(
    predictor: Predictor,
    patterns: Sequence[str | os.PathLike[str]],
    batch_size: int | None = None,
    *,
    skip: Callable[[str], bool] = lambda path: False,
    known: Iterable[str] = (),
    read: Callable[[str], ImageSource] = fetched,
    answer: Callable[[Sequence[Any]], Any] | None = None,
) -> Iterator[tuple[str, Prediction | ImageError]]:
    """Predicts for files, whatever happens to some of them.

    Args:
        predictor: what predicts.
        patterns: files; http(s) addresses; folders, which are searched through for images; globs, in which ** stands
            for any folders.
        batch_size: images at once; None for the predictor's own.
        skip: whether a file's result is there already. The others share batches with the same files as without it, so
            that their results are the same to the bit.
        known: real paths of files that are no images to predict for, though a folder may have them.
        read: what is read of a path, as it is or fetched from its address.
        answer: what is made of prepared images; None for the predictor's results.

    Yields:
        Each file once, in the order of the patterns and sorted within one, with its result or the `ImageError` that
        says what is wrong with it. A pattern that matches nothing comes with an `ImageError` of its own.
    """
    size = batch_size if batch_size is not None else predictor.batch_size
    if size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    files = find_images(patterns, set(known))
    first, white_level = True, predictor.transform.preprocessing.white_level
    while batch := list(itertools.islice(files, size)):
        wanted = {path for path, _ in batch if not skip(path)}
        if first and wanted:
            paths = [path for path, problem in batch if problem is None and not is_address(path)]
            tell_white_level(paths, white_level)
            first = False
        if wanted:
            images = [problem or _source(path, read) for path, problem in batch]
            results = predictor.answers(images, answer or predictor.predict_prepared)
            yield from ((path, result) for (path, _), result in zip(batch, results, strict=True) if path in wanted)


def _source(path: str, read: Callable[[str], ImageSource]) -> ImageSource | ImageError:
    try:
        return read(path)
    except ImageError as error:
        return error


def find_images(
    patterns: Sequence[str | os.PathLike[str]], seen: set[str] | None = None
) -> Iterator[tuple[str, ImageError | None]]:
    """(file, None) for each file that the patterns stand for, or (pattern, error) for one that stands for none.

    Files whose real paths have been `seen` are left out.
    """
    seen = set() if seen is None else seen
    for pattern in dict.fromkeys(os.fspath(one) for one in patterns):
        if is_address(pattern):
            if pattern not in seen:
                seen.add(pattern)
                yield pattern, None
            continue
        found: list[str] = []
        # A file's own name may hold the signs of a glob.
        matches = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(pattern, recursive=True))
        for match in matches:
            found += find_inputs(match) if os.path.isdir(match) else [match]
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
