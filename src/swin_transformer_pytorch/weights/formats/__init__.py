"""The formats that public Swin checkpoints come in: recognised from their keys, and converted, both ways.

Pure functions from state dict to state dict: tensors are renamed, split, joined and reordered, never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from . import dense, official, openmmlab, seed, timm, torchvision, transformers
from .format import Format, FormatError, StateDict
from .official import is_dense_norm, is_derived, is_official_key, window_of_buffers

if TYPE_CHECKING:
    from torch import Tensor

# The last that recognises a state dict has it: timm's names are official ones but for where a stage begins.
_RECORDS: tuple[Format, ...] = tuple(
    module.FORMAT for module in (official, timm, torchvision, transformers, openmmlab, seed)
)
FORMATS = tuple(record.name for record in _RECORDS)
DENSE_FORMATS = tuple(record.name for record in _RECORDS if record.write_whole is not None)
"""Those that have whole detectors and segmenters."""

_UNUSED = ("backbone.norm.weight", "backbone.norm.bias")  # by any dense model


def find_format(name: str, argument: str = "format") -> Format:
    """The record of one of `FORMATS`; a `FormatError` that names the argument where it is none."""
    for record in _RECORDS:
        if record.name == name:
            return record
    raise FormatError(f"{argument}={name!r} is not a format; use one of {', '.join(FORMATS)}")


def detect_format(state_dict: Mapping[str, Tensor]) -> str:
    """Which of `FORMATS` a state dict is in.

    Raises:
        FormatError: none of them; the message shows some of its keys.
    """
    keys = set(state_dict)
    whole = dense.is_whole(keys)
    names = set(map(dense.without_prefix, keys)) if whole else keys
    for record in reversed(_RECORDS):
        if (record.write_whole is not None or not whole) and record.matches(names):
            return record.name
    raise FormatError(f"not a Swin checkpoint of a known format ({', '.join(FORMATS)}): its keys are {_some(keys)}")


def to_official(state_dict: Mapping[str, Tensor], source: str | None = None) -> StateDict:
    """Renamed to the official names, derived buffers left out. Keys that no rule knows stay as they are.

    A whole detector or segmenter keeps its backbone under `backbone.`; a backbone alone has no prefix.

    Args:
        source: the format that it is in; None to recognise it. "seed" stays as it is.
    """
    known = find_format(source if source is not None else detect_format(state_dict), "source")
    if known.read is None:
        return dict(state_dict)
    parameters = {key: tensor for key, tensor in state_dict.items() if not is_derived(key)}
    if not dense.is_whole(parameters):
        return known.read(parameters)
    if known.write_whole is None:
        raise FormatError(
            f"source={known.name!r} has no whole detectors or segmenters; use one of {', '.join(DENSE_FORMATS)}"
        )
    backbone, heads = dense.split(parameters)
    return dense.join(known.read(backbone), known.read_heads(heads) if known.read_heads is not None else heads)


def convert_state_dict(
    state_dict: Mapping[str, Tensor],
    to: str,
    source: str | None = None,
    *,
    window_size: int | tuple[int, int] | None = None,
) -> StateDict:
    """A state dict in another format; the one given is left as it is, and tensors may share memory with it.

    What the target needs to load it strictly is written: torchvision's position index and coordinates, the last norm
    that transformers' dense backbone has and never uses. What it has no place for is left out only if it is derived,
    or belongs to masked pre-training alone (`mask_token`, `decoder`). Whole detectors and segmenters convert from and
    to the formats that have them.

    Args:
        state_dict: parameters by name, without a container around them.
        to: one of `FORMATS`.
        source: the format that it is in; None to recognise it.
        window_size: tokens of a window, for "torchvision" where the tensors do not tell: V2, non-square V1.

    Raises:
        FormatError: unknown format or keys, or a key that the wanted format has no place for.
    """
    target = find_format(to, "to")
    known = find_format(source if source is not None else detect_format(state_dict), "source")
    if known.write is None or target.write is None:
        other = known if known.write is None else target
        if known is not target:
            raise FormatError(
                f"{known.name!r} does not convert to {to!r}: {other.foreign} ({other.name!r}) is another architecture "
                f"than the paper's, so its weights fit swin_transformer_pytorch.{other.module} alone"
            )
        return dict(state_dict)
    named = to_official(state_dict, known.name)
    whole = dense.is_whole(named)
    if unknown := [key for key in named if not _is_known(key, whole)]:
        raise FormatError(f"not all keys belong to a Swin model in format {known.name!r}: {_some(unknown)}")
    if whole and target.write_whole is None:
        raise FormatError(
            f"{to!r} has no place for a whole detector or segmenter: use one of {', '.join(DENSE_FORMATS)}, or convert "
            "its backbone alone"
        )
    if whole and target.write_whole is not None:
        return target.write_whole(*dense.split({key: v for key, v in named.items() if key not in _UNUSED}))
    if target.write_whole is None and (norms := [key for key in named if is_dense_norm(key)]):
        raise FormatError(
            f"{to!r} has no place for the norms of a dense backbone ({_some(norms)}): leave them out first"
        )
    if window_size is None:
        window_size = window_of_buffers(state_dict)
    return target.write(named, (window_size, window_size) if isinstance(window_size, int) else window_size)


def _is_known(key: str, whole: bool) -> bool:
    if not whole:
        return is_official_key(key)
    backbone = key.removeprefix(dense.BACKBONE)
    return is_official_key(backbone) if backbone != key else dense.is_beside_backbone(key)


def _some(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    return f"{', '.join(keys[:5])}, ... ({len(keys)} in all)" if len(keys) > 5 else ", ".join(keys) or "none"
