"""What heads take and give, by name."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

Maps = Sequence[Float[Tensor, "B C _ _"]]
"""The maps of a feature pyramid, finest first."""

Regions = Sequence[Float[Tensor, "_ 4"]]
"""Each image's boxes (x0, y0, x1, y1) in pixels of the input."""

Losses = dict[str, Float[Tensor, ""]]
"""Losses by name, already weighted: training minimises their sum."""
