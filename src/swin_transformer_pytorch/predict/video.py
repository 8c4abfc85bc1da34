"""Predictions for the frames of a video."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from ..checks import require
from ..data.images.video import Frame, Video
from .predictor import Predictor
from .task import Prediction

T = TypeVar("T")


def predict_video(
    predictor: Predictor, video: Video, batch_size: int | None = None
) -> Iterator[tuple[Frame, Prediction]]:
    """Predicts for each frame of a video, in batches; the next batch is decoded and prepared meanwhile.

    Nothing is held but two batches, however long the video is.

    Args:
        predictor: what predicts.
        video: the frames.
        batch_size: frames at once; None for the predictor's own, and 1 of a camera, whose frames should not wait.

    Yields:
        Each frame with its result, in order.

    Raises:
        VideoError: see `Video`, after the results of the frames up to there.
    """
    size = batch_size or (1 if video.is_live else predictor.batch_size)
    require(size >= 1, "batch_size", size, "use a whole number of at least 1")
    problem: list[Exception] = []

    def prepared() -> Iterator[tuple[Frame, Any]]:
        try:
            for frame in video:
                yield frame, predictor.prepare(frame.image)
        except Exception as error:  # raised when the frames before it have their results
            problem.append(error)

    ready = ahead(prepared(), size)
    while batch := list(itertools.islice(ready, size)):
        results = predictor.predict_prepared([one for _, one in batch])
        yield from ((frame, result) for (frame, _), result in zip(batch, results, strict=True))
    if problem:
        raise problem[0]


def ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """The same items, of which up to `count` are made in a thread before they are asked for."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as pool:
        futures: deque[Future[Any]] = deque(pool.submit(next, items, end) for _ in range(count))
        try:
            while (item := futures.popleft().result()) is not end:
                futures.append(pool.submit(next, items, end))
                yield item
        finally:
            for future in futures:
                future.cancel()
