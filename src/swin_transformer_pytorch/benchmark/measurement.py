"""What was measured of one library on one setting."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from ..sizes import Size
from .setting import Setting


@dataclass(frozen=True, kw_only=True)
class Measurement(Setting):
    """One library on one setting.

    Attributes:
        library: "swin_transformer_pytorch" is our model as it is, "optimized" what `optimize_for_inference` makes of
            it, "floor" its matrix products alone; the others are peers.
        seconds: median time of one forward pass, or one training step, of the whole batch.
        ratio: our eager time over this library's, the median of all rounds; 1 for itself.
        optimized_ratio: our optimised time over this library's likewise; None where that was not measured.
        floor_ratio: this library's time over the floor's likewise; None where that was not measured.
        times: seconds of each round; those of one place ran one after the other.
        peak_bytes: on a CPU: memory of a fresh process at its peak, above what it had before the first step. On a GPU:
            allocated memory at its peak. None where it was not measured.
    """

    library: str
    seconds: float
    ratio: float
    optimized_ratio: float | None
    floor_ratio: float | None
    times: tuple[float, ...]
    peak_bytes: int | None

    @property
    def setting(self) -> tuple[str, str, int, str, Size]:
        """What the libraries of one comparison share."""
        return self.model, self.mode, self.batch_size, self.dtype, self.image_size

    @property
    def nanoseconds_per_pixel(self) -> float:
        """Of the images' pixels."""
        return 1e9 * self.seconds / self.pixels

    @property
    def spread(self) -> float:
        """The middle half of the rounds, from its shortest to its longest, in parts of the median; 0 for one round."""
        if len(self.times) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return (high - low) / self.seconds

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Measurement:
        """What `dataclasses.asdict` gave, read back from JSON, where tuples are lists."""
        height, width = fields["image_size"]
        return cls(**{**fields, "image_size": (height, width), "times": tuple(fields["times"])})
