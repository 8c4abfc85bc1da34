"""Whether an exported file gives what its model gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from .detection import set_threshold
from .graph import ExportError, Graph

TOLERANCE = 1e-4
"""Largest difference of an output, over its largest value."""

Run = Callable[..., Sequence[Tensor]]
"""The inputs -> outputs, by a file."""

_TRIES = 3
_PER_SPARE = 20
"""Of so many objects, one may be without its like: rounding decides which of two proposals suppresses the other."""


def compare(start: Callable[..., Run], graph: Graph) -> None:
    """Runs an exported file at several image sizes, each with a batch of one and of two, or at those that it is for.

    A detector's objects are compared where it finds none, few and as many as it may give, in random images: its score
    threshold is moved for that. Rounding alone may make an object come or go, or a cell of a map one that a
    Mask2Former's query looks at, so these have three images to get it right.

    Args:
        start: opens the file, a detector's with a score threshold instead of its own, and gives what runs it.
        graph: what it was made from.

    Raises:
        ExportError: an output is not the model's.
    """
    whole = () if graph.finds_objects else (start(),)
    for size in [graph.image_size] if graph.image_size else graph.telling_sizes():
        for batch in (graph.batch_size,) if graph.batch_size else (1, 2):
            for attempt in range(_TRIES if graph.finds_objects or graph.has_queries else 1):
                inputs = graph.example(size, batch, seed=batch + attempt)
                errors = _errors(whole or _at_thresholds(start, graph, inputs), graph, inputs)
                if not (wrong := {name: error for name, error in errors.items() if not error <= TOLERANCE}):
                    break
            else:
                name, error = next(iter(wrong.items()))
                raise ExportError(
                    f"the exported {name} differ from the model's by {error:.1e} of the largest value, for {batch} "
                    f"image(s) of {size[0]} x {size[1]} pixels, so no file is left: please report it, with the "
                    "versions that `swin doctor` shows"
                )


def _at_thresholds(start: Callable[..., Run], graph: Graph, inputs: tuple[Tensor, ...]) -> Iterator[Run]:
    """What runs a detector's file at each telling threshold; its definition has the same one meanwhile."""
    for threshold in telling_thresholds(graph, inputs):
        set_threshold(graph.original.model, threshold)
        yield start(threshold)


def _errors(runs: Iterable[Run], graph: Graph, inputs: tuple[Tensor, ...]) -> dict[str, float]:
    """The largest error of each output."""
    worst = dict.fromkeys(graph.outputs, 0.0)
    for run in runs:
        with torch.no_grad():
            got, expected = run(*inputs), graph.original(*inputs)
        if not all(one.isfinite().all() for one in expected):
            raise ExportError(
                "the model gives numbers that are infinite or none, for an image of random pixels, so no file is left: "
                "look for such numbers in its weights"
            )
        if graph.finds_objects:
            got, expected = matched(got, expected, spare=len(expected[1]) // _PER_SPARE)
        for name, mine, wanted in zip(graph.outputs, got, expected, strict=True):
            worst[name] = max(worst[name], relative_error(mine, wanted))
    return worst


def telling_thresholds(graph: Graph, inputs: tuple[Tensor, ...], ranks: Sequence[int] = (2, 20)) -> list[float]:
    """Score thresholds at which a detector finds nothing, as many objects as it may give, and about as many as `ranks`.

    They lie where no score is near, or are left out: regions without area, of a tiny image, all score the same.
    """
    set_threshold(graph.original.model, -1.0)
    scores = graph.original(*inputs)[1]
    thresholds = [2.0]
    if scores[-len(scores) // 5] > (1 + TOLERANCE) * scores[-1]:
        thresholds.append(0.999 * float(scores[-1]))
    for first, end in zip(ranks, (*ranks[1:], len(scores)), strict=True):
        near = scores[first:end]
        gaps = near[:-1] / near[1:]
        if len(gaps) > 0 and gaps.max() > 1 + TOLERANCE:
            place = int(gaps.argmax())
            thresholds.append(float(near[place] + near[place + 1]) / 2)
    return thresholds


def matched(
    got: Sequence[Tensor], expected: Sequence[Tensor], *, spare: int = 0
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Both sides' objects in the same order, without the `spare` ones that are least alike."""
    if abs(len(got[1]) - len(expected[1])) > spare or min(len(got[1]), len(expected[1])) == 0:
        return got, expected
    boxes, scores, labels, _ = got
    apart = (boxes[None] - expected[0][:, None]).abs().amax(dim=2) / expected[0].abs().max().clamp(min=1e-30)
    apart = torch.maximum(apart, (scores - expected[1][:, None]).abs() / expected[1].max())
    apart, like = (apart + (labels != expected[2][:, None])).min(dim=1)
    best = apart.argsort()[: len(apart) - spare]
    return [one[like[best]] for one in got], [one[best] for one in expected]


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest value; infinite where shapes or whole numbers differ, or one is NaN."""
    if got.shape != expected.shape or (not expected.is_floating_point() and not torch.equal(got, expected)):
        return float("inf")
    if expected.numel() == 0:
        return 0.0
    error = float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    return error if math.isfinite(error) else float("inf")
