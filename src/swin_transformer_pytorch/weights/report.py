"""What loading a checkpoint did, tensor by tensor, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_KINDS = ("resized", "sliced", "adapted", "fresh", "dropped")


@dataclass(frozen=True)
class Change:
    """One tensor that was not loaded as it is, and why."""

    key: str
    why: str


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What `load_weights` did. `print(report)` tells it in a few lines.

    Attributes:
        source: the file, address or object that was loaded.
        format: the format that it was in.
        which: whether its weights are "averaged" or "raw", where it tells; else None.
        loaded: parameters taken as they are.
        resized: bias tables brought to the model's window.
        sliced: parameters of which a part was taken (a 22K head's rows of the 1K classes).
        adapted: parameters recomputed for the model (the first convolution's channels).
        fresh: parameters of the model that the file has none for: they keep the values they had.
        dropped: tensors of the file, by their names there, that the model has no use for.
        notes: what the weights expect of the model that it does otherwise.
    """

    source: str
    format: str
    which: str | None = None
    loaded: tuple[str, ...] = ()
    resized: tuple[Change, ...] = ()
    sliced: tuple[Change, ...] = ()
    adapted: tuple[Change, ...] = ()
    fresh: tuple[Change, ...] = ()
    dropped: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        filled = len(self.loaded) + len(self.resized) + len(self.sliced) + len(self.adapted)
        kind = f"{self.format}, {self.which} weights" if self.which else self.format
        lines = [f"{self.source} ({kind}): {filled} of {filled + len(self.fresh)} parameters filled"]
        lines.append(f"  as they are {len(self.loaded):>4}")
        for kind in _KINDS:
            for keys, why in _grouped(getattr(self, kind)):
                lines.append(f"  {kind:<11} {len(keys):>4}  {_shortened(keys)}: {why}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _grouped(changes: tuple[Change, ...]) -> Iterator[tuple[list[str], str]]:
    groups: dict[str, list[str]] = {}
    for change in changes:
        groups.setdefault(change.why, []).append(change.key)
    return ((keys, why) for why, keys in groups.items())


def _shortened(keys: list[str]) -> str:
    return ", ".join(keys) if len(keys) <= 2 else f"{keys[0]} and {len(keys) - 1} more"
