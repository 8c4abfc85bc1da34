"""What a server takes at most."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import is_count, is_number, require


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Beyond these a request is refused. How many pixels an image may have is the predictor's to say.

    Attributes:
        max_bytes: of an image file.
        max_queue: requests of one model that are under way, from their first byte to their answer.
        timeout: seconds in which a request must have arrived, and then as many in which it is answered.
        batch_wait: seconds that a request waits for others to share its batch.
    """

    max_bytes: int = 20_000_000
    max_queue: int = 32
    timeout: float = 30.0
    batch_wait: float = 0.005

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_queue"):
            require(is_count(getattr(self, name)), name, getattr(self, name), "use a whole number of at least 1")
        require(is_number(self.timeout) and self.timeout > 0, "timeout", self.timeout, "use seconds above 0")
        require(is_number(self.batch_wait) and self.batch_wait >= 0, "batch_wait", self.batch_wait, "use 0 or more")
