"""One model's requests: a bounded number of them, answered together by one thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from ..data.errors import ImageError
from ..predict import Prediction, Predictor
from .limits import Limits

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class OverloadError(RuntimeError):
    """The model has as many requests as it may have."""


class ModelError(RuntimeError):
    """The model failed; the log says how."""


class Worker:
    """Answers for one model. All but `call`'s function runs in the event loop, so nothing is locked.

    What takes the processor's time is done by one thread, one thing after another: a model is never called twice at
    once, and no more than one picture is open at a time.
    """

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor = predictor
        self._limits = limits
        self._waiting: dict[asyncio.Future[Prediction], bytes] = {}
        self._some = asyncio.Event()
        self._thread = ThreadPoolExecutor(1)
        self.busy = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A request's place, from its first byte to its answer.

        Raises:
            OverloadError: all are taken.
        """
        if self.busy >= self._limits.max_queue:
            raise OverloadError(f"all {self._limits.max_queue} places of this model are taken; try again")
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    async def predict(self, image: bytes) -> Prediction:
        """The answer for an image file. Where it is cancelled before its batch began, it is left out of that.

        Raises:
            ImageError: it is no image, or none that may be used.
            ModelError: the model failed on its batch.
        """
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = image
        self._some.set()
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function in the worker's thread, in its turn."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))

    async def run(self) -> None:
        """Answers until it is cancelled."""
        try:
            while True:
                await self._some.wait()
                if len(self._waiting) < self.predictor.batch_size:
                    await asyncio.sleep(self._limits.batch_wait)
                batch = {one: self._waiting.pop(one) for one in list(self._waiting)[: self.predictor.batch_size]}
                if not self._waiting:
                    self._some.clear()
                results = await self.call(self._predict, list(batch.values()))
                for answer, result in zip(batch, results, strict=True):
                    if answer.done():  # nobody waits for it any more
                        continue
                    if isinstance(result, Exception):
                        answer.set_exception(result)
                    else:
                        answer.set_result(result)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _predict(self, images: Sequence[bytes]) -> list[Prediction | Exception]:
        """A result or what went wrong for each image, whatever happens."""
        prepared = [_attempt(self.predictor.prepare, image) for image in images]
        good = [one for one in prepared if not isinstance(one, Exception)]
        found = _attempt(self.predictor.predict_prepared, good) if good else []
        results = iter([found] * len(good) if isinstance(found, Exception) else found)
        return [one if isinstance(one, Exception) else next(results) for one in prepared]


def _attempt(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    try:
        return function(*args, **kwargs)
    except ImageError as error:
        return error
    except Exception:
        _log.exception("a prediction failed")
        return ModelError("the model failed on this request; the server's log says why")
