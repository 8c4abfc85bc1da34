"""Who may ask, and what browsers are told: a server at home must not be used by other people's pages."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer."""


class Guard:
    """Refuses requests that a foreign page made a browser send, and adds `HEADERS` to all answers.

    Args:
        app: what is guarded.
        hosts: names that the server is reached by, beside localhost and addresses: to another name a foreign page could
            have given this machine's address (DNS rebinding).
        origins: names whose pages may send requests, whatever their port, as they do where a proxy changes the Host.
            Other pages must come from the Host that they ask.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}
        self.origins = {origin.lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(_name(host)):
            name = _name(host) or "a request without a Host"
            detail = f"{name} is not a name of this server: add it by --allow-host, or use localhost"
            await JSONResponse({"detail": detail}, 421)(scope, receive, guarded)
        elif scope["method"] not in ("GET", "HEAD") and origin is not None and not self._is_own(origin, host):
            await JSONResponse({"detail": "a page of another origin may not send requests"}, 403)(
                scope, receive, guarded
            )
        else:
            await self.app(scope, receive, guarded)

    def _is_ours(self, name: str) -> bool:
        try:
            return bool(ip_address(name))
        except ValueError:
            return name == "localhost" or name in self.hosts

    def _is_own(self, origin: str, host: str) -> bool:
        place = origin.lower().partition("://")[2]
        return bool(place) and (place == host.lower() or _name(place) in self.origins)


def _name(host: str) -> str:
    """Without its port; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
