"""Files at http and https addresses: which these are, how one is opened, and why it could not be read."""

from __future__ import annotations

import string
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse

_TIMEOUT_SECONDS = 30  # of silence

FAILURES = (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError)
"""What opening and reading raise, for `failure`."""


def is_address(source: object) -> bool:
    """Whether it is the text of an http or https address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def open_address(url: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """The server's answer, to be read and closed."""
    usual = {"User-Agent": "swin-transformer-pytorch", "Accept-Encoding": "identity"}
    request = urllib.request.Request(
        urllib.parse.quote(url, safe=string.punctuation), headers=usual | dict(headers or {})
    )
    response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    return response


def failure(error: BaseException) -> str:
    """Why, in words that go after the address."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached ({error.reason})"
    return f"was cut short ({error or type(error).__name__})"
