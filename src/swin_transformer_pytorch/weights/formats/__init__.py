"""The formats that public Swin checkpoints come in: recognised from their keys, and converted, both ways.

Pure functions from state dict to state dict: tensors are renamed, split, joined and reordered, never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from . import dense, official, openmmlab, seed, timm, torchvision, transformers
from .official import (
    FormatError,
    StateDict,
    is_dense_norm,
    is_derived,
    is_masked_pretraining,
    is_official_key,
    trained_windows,
)

__all__ = [
    "FORMATS",
    "FormatError",
    "convert_state_dict",
    "dense",
    "detect_format",
    "is_dense_norm",
    "is_derived",
    "is_masked_pretraining",
    "is_official_key",
    "to_official",
    "trained_windows",
    "window_of_buffers",
]

FORMATS = ("official", "timm", "torchvision", "transformers", "openmmlab", "seed")

# In this order: timm's names differ from the official ones only where a stage begins, so it is asked first.
_RECOGNISE: dict[str, Callable[[set[str]], bool]] = {
    "seed": seed.matches,
    "torchvision": torchvision.matches,
    "openmmlab": openmmlab.matches,
    "transformers": transformers.matches,
    "timm": timm.matches,
    "official": official.matches,
}
_READ: dict[str, Callable[[StateDict], StateDict]] = {
    "official": official.to_official,
    "timm": timm.to_official,
    "torchvision": torchvision.to_official,
    "transformers": transformers.to_official,
    "openmmlab": openmmlab.to_official,
}
_WRITE: dict[str, Callable[[StateDict], StateDict]] = {
    "official": official.from_official,
    "timm": timm.from_official,
    "transformers": transformers.from_official,
    "openmmlab": openmmlab.from_official,
}


def detect_format(state_dict: Mapping[str, Tensor]) -> str:
    """Which of `FORMATS` a state dict is in.

    Raises:
        FormatError: none of them; the message shows some of its keys.
    """
    keys = set(state_dict)
    whole = dense.is_whole(keys)
    names = {key.removeprefix(dense.BACKBONE) for key in keys} if whole else keys
    for name, matches in _RECOGNISE.items():
        if (name in dense.DENSE_FORMATS or not whole) and matches(names):
            return name
    raise FormatError(f"not a Swin checkpoint of a known format ({', '.join(FORMATS)}): its keys are {_some(keys)}")


def to_official(state_dict: Mapping[str, Tensor], source: str | None = None) -> StateDict:
    """Renamed to the official names, derived buffers left out. Keys that no rule knows stay as they are.

    A whole detector or segmenter keeps its backbone under `backbone.`; a backbone alone has no prefix.

    Args:
        source: the format that it is in; None to recognise it. "seed" stays as it is.
    """
    source = _known(source, "source") if source is not None else detect_format(state_dict)
    if source == "seed":
        return dict(state_dict)
    if dense.is_whole(state_dict):
        return dense.to_official(dict(state_dict), _dense(source, "source"))
    return _READ[source](dict(state_dict))


def convert_state_dict(
    state_dict: Mapping[str, Tensor],
    to: str,
    source: str | None = None,
    *,
    window_size: int | tuple[int, int] | None = None,
) -> StateDict:
    """A state dict in another format; the one given is left as it is, and tensors may share memory with it.

    What the target needs to load it strictly is written: torchvision's position index and coordinates. What it has no
    place for is left out only if it is derived, or belongs to masked pre-training alone (`mask_token`, `decoder`).
    Whole detectors and segmenters go through `formats.dense`, from and to the formats that have them.

    Args:
        state_dict: parameters by name, without a container around them.
        to: one of `FORMATS`.
        source: the format that it is in; None to recognise it.
        window_size: tokens of a window, for "torchvision" where the tensors do not tell: V2, non-square V1.

    Raises:
        FormatError: unknown format or keys, or a key that the wanted format has no place for.
    """
    _known(to, "to")
    source = _known(source, "source") if source is not None else detect_format(state_dict)
    if "seed" in (source, to):
        if source != to:
            raise FormatError(
                f"{source!r} does not convert to {to!r}: swin-transformer-pytorch 0.4.1 ('seed') is another "
                "architecture than the paper's, so its weights fit swin_transformer_pytorch.compat alone"
            )
        return dict(state_dict)
    named = to_official(state_dict, source)
    whole = dense.is_whole(named)
    unknown = [key for key in named if not (dense.is_whole_key(key) if whole else is_official_key(key))]
    if unknown:
        raise FormatError(f"not all keys belong to a Swin model in format {source!r}: {_some(unknown)}")
    if whole:
        return dense.from_official(named, to)
    if to in ("timm", "torchvision") and (norms := [key for key in named if is_dense_norm(key)]):
        raise FormatError(
            f"{to!r} has no place for the norms of a dense backbone ({_some(norms)}): leave them out first"
        )
    if to != "torchvision":
        return _WRITE[to](named)
    if window_size is None:
        window_size = window_of_buffers(state_dict)
    window = (window_size, window_size) if isinstance(window_size, int) else window_size
    return torchvision.from_official(named, window_size=window)


def window_of_buffers(state_dict: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """The largest window (height, width) that V2's coordinates were stored for, or None where none were."""
    tables = [v.shape for key, v in state_dict.items() if key.endswith(".relative_coords_table") and v.ndim == 4]
    return max((((shape[1] + 1) // 2, (shape[2] + 1) // 2) for shape in tables), default=None)


def _dense(name: str, argument: str) -> str:
    if name not in dense.DENSE_FORMATS:
        known = ", ".join(dense.DENSE_FORMATS)
        raise FormatError(f"{argument}={name!r} has no whole detectors or segmenters; use one of {known}")
    return name


def _known(name: str, argument: str) -> str:
    if name not in FORMATS:
        raise FormatError(f"{argument}={name!r} is not a format; use one of {', '.join(FORMATS)}")
    return name


def _some(keys: set[str] | list[str]) -> str:
    shown = sorted(keys)[:5]
    return f"{', '.join(shown)}, ... ({len(keys)} in all)" if len(keys) > len(shown) else ", ".join(shown) or "none"
