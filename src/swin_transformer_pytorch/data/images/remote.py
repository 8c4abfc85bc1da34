"""Images at http and https addresses."""

from __future__ import annotations

import time
from typing import TypeVar

from ...addresses import FAILURES, failure, is_address, open_address
from ..errors import ImageError

_MOST_BYTES = 100_000_000
_MOST_SECONDS = 120
_BLOCK = 1 << 16

T = TypeVar("T")


class FetchedImage(bytes):
    """The content of a file from an address, its `filename`, which messages name."""

    filename: str


def fetched(source: T) -> T | FetchedImage:
    """What is at the address, if it is one; anything else as it is.

    Raises:
        ImageError: it cannot be fetched, takes longer than two minutes, or has more than 100 MB.
    """
    if not isinstance(source, str) or not is_address(source):
        return source
    blocks, size, deadline = [], 0, time.monotonic() + _MOST_SECONDS
    try:
        with open_address(source) as response:
            while block := response.read1(_BLOCK):
                blocks.append(block)
                size += len(block)
                if size > _MOST_BYTES:
                    raise ImageError(f"{source} has more than {_MOST_BYTES:,} bytes; download it, and give the file")
                if time.monotonic() > deadline:
                    raise ImageError(f"{source} takes more than {_MOST_SECONDS} s; download it, and give the file")
            if response.length:
                raise ConnectionError(f"{response.length:,} bytes are missing")
    except ImageError:
        raise
    except (*FAILURES, ValueError) as error:  # the latter of an address that is none
        raise ImageError(f"{source} {failure(error)}; check the address and the network") from error
    image = FetchedImage(b"".join(blocks))
    image.filename = source
    return image
