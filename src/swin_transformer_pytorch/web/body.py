"""A request's body within limits of size and time, and its answer while its client is there to read it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from .limits import Limits

T = TypeVar("T")

_PATIENCE = 5.0  # seconds
_SLOWEST = 20_000  # bytes a second, after those


async def read_body(request: Request, limits: Limits) -> bytes:
    """The bytes of an image file.

    What a header says of their number is believed only where it is too large; they are counted as they come. It holds
    a place of the model's meanwhile, so that who sends slowly has no more seconds than the bytes so far are worth.

    Raises:
        HTTPException: 415 for a form, 413 for too many bytes, 408 where they come too slowly, 400 where there are none.
        ClientDisconnect: the client is gone.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(415, "send the image file's bytes as the body, not a form: curl --data-binary @photo.jpg")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise _too_large(limits)
    body, start = bytearray(), asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(min(_PATIENCE, limits.timeout)) as patience:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.max_bytes:
                    raise _too_large(limits)
                patience.reschedule(start + min(_PATIENCE + len(body) / _SLOWEST, limits.timeout))
    except TimeoutError as error:
        raise HTTPException(
            408,
            f"the image did not arrive within {limits.timeout:g} s, or at less than {_SLOWEST:,} bytes a second",
        ) from error
    if not body:
        raise HTTPException(400, "the body is empty: send the image file's bytes, curl --data-binary @photo.jpg")
    return bytes(body)


async def answer_in_time(request: Request, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """What `work` gives; it is cancelled where its client leaves, or after so many seconds.

    The request's body must have been read.

    Raises:
        HTTPException: 504, after the seconds.
        ClientDisconnect: the client is gone.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise HTTPException(504, f"there was no answer within {seconds:g} s; try again later, or a smaller image")
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(413, f"the image file has more than {limits.max_bytes:,} bytes; send a smaller one")
