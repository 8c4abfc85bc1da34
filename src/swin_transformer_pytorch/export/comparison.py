"""Whether an exported file gives what its model gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .graph import ExportError, Graph

TOLERANCE = 1e-4
"""Largest difference of an output, over its largest value."""


def compare(run: Callable[[Tensor], Sequence[Tensor]], graph: Graph) -> None:
    """Runs an exported file at several image sizes, each with a batch of one and of two, or at those that it is for.

    Args:
        run: images -> outputs, by the file.
        graph: what it was made from.

    Raises:
        ExportError: an output is not the model's.
    """
    for size in [graph.image_size] if graph.image_size else graph.telling_sizes():
        for batch in (graph.batch_size,) if graph.batch_size else (1, 2):
            images = graph.example(size, batch, seed=batch)
            with torch.no_grad():
                expected = graph.original(images)
            for name, got, wanted in zip(graph.outputs, run(images), expected, strict=True):
                error = relative_error(got, wanted)
                if not error <= TOLERANCE:
                    raise ExportError(
                        f"the exported {name} differ from the model's by {error:.1e} of the largest value, for {batch} "
                        f"image(s) of {size[0]} x {size[1]} pixels, so no file is left: please report it, with the "
                        "versions that `swin doctor` shows"
                    )


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest value; infinite where shapes differ."""
    if got.shape != expected.shape:
        return float("inf")
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
