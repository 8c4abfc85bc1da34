"""What this project aims at on two CPU cores, and whether a run's figures meet it. Only ratios within a run count."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from swin_transformer_pytorch.benchmark import FLOOR, OPENVINO, OPTIMIZED, OURS, Measurement

EAGER = ("timm", "torchvision", "transformers")
TINY, TINY_V2 = "swin_tiny_patch4_window7_224", "swinv2_tiny_patch4_window16_256"


@dataclass(frozen=True, kw_only=True)
class Aim:
    """A ratio that is to be at most `limit`.

    Attributes:
        measure: what it is about, in words.
        part: of the run.
        mode, dtype, batch_size: the setting, inside its part.
        ours: which of our forms is above the line, as a `Measurement` names it.
        peers: the libraries below it: the fastest by median counts, of memory the least. Empty: our own form, with
            the same pixels in many small images.
        quantity: "time" or "peak memory".
    """

    measure: str
    part: str
    mode: str
    dtype: str
    batch_size: int
    ours: str
    peers: tuple[str, ...]
    quantity: str
    limit: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An aim beside what was measured.

    Attributes:
        below: what ours was divided by; None where it was not measured.
        value: the median of the ratios round by round; of memory the ratio. None where it was not measured.
        low, high: the least and greatest ratio of a round; of memory the same as `value`.
    """

    aim: Aim
    below: str | None
    value: float | None
    low: float | None
    high: float | None

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        return None if self.value is None else self.value <= self.aim.limit


def _inference(dtype: str, batch_size: int, limits: tuple[float, float, float]) -> list[Aim]:
    below = ((FLOOR,), EAGER, (OPENVINO,))
    return [
        Aim(
            measure=f"inference {dtype} B={batch_size}",
            part="inference",
            mode="inference",
            dtype=dtype,
            batch_size=batch_size,
            ours=OPTIMIZED,
            peers=peers,
            quantity="time",
            limit=limit,
        )
        for peers, limit in zip(below, limits, strict=True)
    ]


def _simple(
    measure: str,
    part: str,
    limit: float,
    *,
    ours: str = OURS,
    mode: str = "inference",
    dtype: str = "float32",
    batch_size: int = 8,
    peers: tuple[str, ...] = EAGER,
    quantity: str = "time",
) -> Aim:
    return Aim(
        measure=measure,
        part=part,
        mode=mode,
        dtype=dtype,
        batch_size=batch_size,
        ours=ours,
        peers=peers,
        quantity=quantity,
        limit=limit,
    )


_PIXELS = "the same pixels as 1x1792x1792 and as 64x224x224"
AIMS: tuple[Aim, ...] = (
    *_inference("float32", 8, (0.85, 0.65, 0.82)),
    *_inference("float32", 1, (0.85, 0.62, 0.95)),
    *_inference("bfloat16", 8, (1.12, 0.70, 0.90)),
    *_inference("bfloat16", 1, (1.20, 0.70, 0.95)),
    _simple("inference float32 B=8", "inference", 0.88),
    *(
        _simple(f"training step {dtype} B=8", "training", limit, mode="training", dtype=dtype, quantity=quantity)
        for dtype in ("float32", "bfloat16")
        for quantity, limit in (("time", 0.75), ("peak memory", 0.60))
    ),
    *(_simple(_PIXELS, "size", 1.05, ours=ours, batch_size=1, peers=()) for ours in (OPTIMIZED, OURS)),
    # Of the eager form alone: optimised, many images take less the more there are, by pieces.
    _simple(_PIXELS, "size", 1.10, batch_size=1, peers=(), quantity="peak memory"),
    _simple("one image of 1792x1792", "size", 0.35, ours=OPTIMIZED, batch_size=1, quantity="peak memory"),
    *(_simple("Swin V2-T window 16, inference B=8", "v2", 0.75, ours=ours) for ours in (OPTIMIZED, OURS)),
    _simple("Swin V2-T window 16, training step B=8", "v2", 0.75, mode="training"),
    *(
        _simple(
            "800x1333 backbone for detection",
            "detection",
            0.75,
            ours=ours,
            mode="features",
            batch_size=1,
            peers=("torchvision",),
        )
        for ours in (OPTIMIZED, OURS)
    ),
)


def outcomes(parts: dict[str, list[Measurement]]) -> list[Outcome]:
    """Each aim with its figure, from the measurements of a run's parts."""
    return [_outcome(aim, parts.get(aim.part, [])) for aim in AIMS]


def aims_table(results: Sequence[Outcome]) -> str:
    """As markdown: a row an aim."""
    lines = [
        "| measure | form | / | ratio | rounds | aim | |",
        "| --- | --- | --- | ---: | ---: | ---: | --- |",
    ]
    for one in results:
        form = {OURS: "eager", OPTIMIZED: "optimized"}[one.aim.ours]
        below = one.below or " or ".join(one.aim.peers) or "many images"
        if one.value is None:
            cells = ["", "", f"<= {one.aim.limit:.2f}", "not measured"]
        else:
            verdict = "met" if one.met else f"**missed** by {one.value / one.aim.limit - 1:.0%}"
            rounds = "" if one.aim.quantity != "time" else f"{one.low:.2f}-{one.high:.2f}"
            cells = [f"{one.value:.3f}", rounds, f"<= {one.aim.limit:.2f}", verdict]
        name = f"{one.aim.measure}, {one.aim.quantity}"
        lines.append(f"| {' | '.join([name, form, below, *cells])} |")
    return "\n".join(lines) + "\n"


def _outcome(aim: Aim, measurements: list[Measurement]) -> Outcome:
    candidates = [m for m in measurements if (m.mode, m.dtype) == (aim.mode, aim.dtype)]
    mine = [m for m in candidates if m.library == aim.ours]
    above = next((m for m in mine if m.batch_size == aim.batch_size), None)
    if aim.peers:
        below = [m for m in candidates if m.library in aim.peers and m.batch_size == aim.batch_size]
    else:
        below = [m for m in mine if m.batch_size != aim.batch_size]
    nothing = Outcome(aim=aim, below=None, value=None, low=None, high=None)
    if above is None or not below:
        return nothing
    if aim.quantity == "time":
        best = min(below, key=lambda m: m.seconds)
        rounds = [a / b for a, b in zip(above.times, best.times, strict=True)]
        return Outcome(
            aim=aim, below=_name(aim, best), value=statistics.median(rounds), low=min(rounds), high=max(rounds)
        )
    known = [(m.peak_bytes, m) for m in below if m.peak_bytes is not None]
    if above.peak_bytes is None or not known:
        return nothing
    least, best = min(known, key=lambda pair: pair[0])
    ratio = above.peak_bytes / least
    return Outcome(aim=aim, below=_name(aim, best), value=ratio, low=ratio, high=ratio)


def _name(aim: Aim, best: Measurement) -> str:
    if not aim.peers:
        return f"{best.batch_size}x{best.image_size[0]}x{best.image_size[1]}"
    return best.library
