"""The page and the JSON API as an ASGI application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from .. import __version__
from ..data.errors import ImageError
from ..models.config import Task
from ..predict import Predictor
from ..results import Detections
from .answers import drawn, samples
from .body import answer_in_time, read_body
from .guard import Guard
from .limits import Limits
from .schema import (
    BODY,
    PROBLEMS,
    ClassificationAnswer,
    DetectionAnswer,
    Health,
    ModelInfo,
    Models,
    PanopticAnswer,
    SegmentationAnswer,
)
from .worker import ModelError, OverloadError, Worker

_STATIC = Path(__file__).parent / "static"
_PARAMETERS = frozenset({"model", "score_threshold", "picture"})
_ANSWERS = ClassificationAnswer | DetectionAnswer | SegmentationAnswer | PanopticAnswer


def create_app(
    predictors: Mapping[str, Predictor],
    limits: Limits | None = None,
    *,
    score_threshold: float = 0.3,
    hosts: Iterable[str] = (),
    origins: Iterable[str] = (),
) -> ASGIApp:
    """The application for some predictors, by the names that requests call them; the first answers where none is named.

    Args:
        predictors: at least one.
        limits: what a request may be; None for the defaults.
        score_threshold: detection: least score of the objects in an answer, where a request does not say another.
        hosts, origins: see `Guard`.
    """
    limits = limits or Limits()
    usual_score = score_threshold
    described = [_describe(name, predictor) for name, predictor in predictors.items()]
    workers = {name: Worker(predictor, limits) for name, predictor in predictors.items()}

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(worker.run()) for worker in workers.values()]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Its interactive pages would load scripts from elsewhere.
    app = FastAPI(title="swin web", version=__version__, lifespan=running, docs_url=None, redoc_url=None)
    _explain_problems(app)

    @app.post("/predict", response_model=_ANSWERS, responses=PROBLEMS, openapi_extra=BODY)
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="one of /models; without it, the first of them")] = None,
        score_threshold: Annotated[
            float | None, Query(ge=0, le=1, description="detection: least score; without it, that of /models")
        ] = None,
        picture: Annotated[bool, Query(description="whether the answer is to have pictures")] = False,
    ) -> Response:
        """Classifies, detects or segments one image, the body of the request."""
        if unknown := sorted(request.query_params.keys() - _PARAMETERS):
            raise HTTPException(422, f"there is no parameter {unknown[0]!r}; use {', '.join(sorted(_PARAMETERS))}")
        name = next(iter(workers)) if model is None else model
        if name not in workers:
            raise HTTPException(404, f"there is no model {name!r}; use one of {', '.join(workers)}")
        worker = workers[name]
        if score_threshold is not None and _task(worker.predictor) != "detection":
            raise HTTPException(422, f"score_threshold is for detectors, and {name} is none; leave it out")
        least = usual_score if score_threshold is None else score_threshold
        try:
            with worker.place():
                image = await read_body(request, limits)
                work = _answer(worker, image, least, picture)
                record = {"model": name} | await answer_in_time(request, work, limits.timeout)
        except asyncio.CancelledError:
            raise HTTPException(503, "the server is being stopped") from None
        return JSONResponse(record)

    @app.api_route("/predict", methods=["GET", "HEAD", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def predict_otherwise() -> None:
        # The page's files, which are at every other path, would say that there is none.
        raise HTTPException(405, "POST the image as the request's body", headers={"Allow": "POST"})

    @app.get("/models")
    async def models() -> Models:
        """The models and what a request may be."""
        return Models(models=described, max_bytes=limits.max_bytes, score_threshold=usual_score)

    @app.get("/health")
    async def health() -> Health:
        """That the server is there, and how busy."""
        return Health(status="ok", busy={name: worker.busy for name, worker in workers.items()})

    @app.get("/samples/{name}", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    async def sample(name: str) -> Response:
        """An image to try, a PNG."""
        if name not in samples():
            raise HTTPException(404, f"there is no sample {name!r}; /models names them")
        return Response(samples()[name], media_type="image/png")

    app.mount("/", StaticFiles(directory=_STATIC, html=True))
    return Guard(app, hosts, origins)


async def _answer(worker: Worker, image: bytes, least_score: float, picture: bool) -> dict[str, Any]:
    began = time.monotonic()
    result = await worker.predict(image)
    record: dict[str, Any] = {}
    if isinstance(result, Detections):
        result = result.above(least_score)
        record["score_threshold"] = least_score
    record |= result.to_dict()
    if picture:
        record |= await worker.call(drawn, image, result, worker.predictor)
    return record | {"milliseconds": round((time.monotonic() - began) * 1000, 1)}


def _task(predictor: Predictor) -> Task:
    return cast(Task, predictor.model.task)


def _describe(name: str, predictor: Predictor) -> ModelInfo:
    task = _task(predictor)
    kind = "fashion" if task == "classification" else "scene"
    return ModelInfo(
        name=name,
        task=task,
        classes=None if predictor.classes is None else list(predictor.classes),
        max_pixels=predictor.max_pixels,
        samples=[f"samples/{sample}" for sample in samples() if sample.startswith(kind)],
    )


def _explain_problems(app: FastAPI) -> None:
    """Each as {"detail": text}."""

    @app.exception_handler(ImageError)
    def image_error(request: Request, error: ImageError) -> Response:
        return JSONResponse({"detail": str(error)}, 400)

    @app.exception_handler(ModelError)
    def model_error(request: Request, error: ModelError) -> Response:
        return JSONResponse({"detail": str(error)}, 500)

    @app.exception_handler(OverloadError)
    def overload_error(request: Request, error: OverloadError) -> Response:
        return JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "1"})

    @app.exception_handler(RequestValidationError)
    def validation_error(request: Request, error: RequestValidationError) -> Response:
        problems = (f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
        return JSONResponse({"detail": "; ".join(problems)}, 422)

    @app.exception_handler(ClientDisconnect)
    def client_disconnect(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # for nobody: the client is gone
