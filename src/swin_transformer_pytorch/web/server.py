"""The application run by uvicorn on one socket."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp

_HEAD_BYTES = 16_384
_KEEP_ALIVE = 5
_SHUTDOWN = 5
_LOOK_AROUND = 10


class ListenError(ValueError):
    """Nobody can listen there. The message says why and the fix."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, so that nothing else takes the port while models are loaded; 0 takes any free one.

    Raises:
        ListenError: the port is in use, or the host is none of this machine's.
    """
    listener = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ListenError(
            f"{host} port {port} cannot be listened at ({error.strerror or error}); choose another by --host and --port"
        ) from error
    return listener


def make_server(app: ASGIApp, *, connections: int, look_around: float = _LOOK_AROUND) -> uvicorn.Server:
    """A server that stops on SIGINT and SIGTERM, after what is under way.

    Args:
        app: what it serves.
        connections: with more, requests are answered by 503.
        look_around: seconds between two looks for clients that hang, see `_Clients`.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,  # errors alone, to stderr
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=connections,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_SHUTDOWN,
        timeout_notify=look_around,  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    config.callback_notify = _Clients(server).end_those_that_hang
    return server


class _Clients:
    """Ends connections that uvicorn would keep for ever, since a client can hold all of them that there may be.

    Between two looks a connection must have begun another request, or have taken some of its answer, unless the
    application is at work on it, which has time limits of its own.
    """

    def __init__(self, server: uvicorn.Server) -> None:
        self.server = server
        self.before: dict[Any, tuple[Any, int]] = {}

    async def end_those_that_hang(self) -> None:
        now: dict[Any, tuple[Any, int]] = {}
        connection: Any
        for connection in self.server.server_state.connections:
            cycle, unsent = connection.cycle, connection.transport.get_write_buffer_size()
            if cycle is None or cycle.response_complete or unsent:
                now[connection] = cycle, unsent
        for connection, state in now.items():
            if self.before.get(connection) == state:
                connection.transport.abort()
        self.before = now
