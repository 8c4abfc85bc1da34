"""What checkpoints hold weights in: dicts around a state dict, prefixes on its names, running means beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..colours import Colour, is_colour
from .errors import CheckpointError
from .formats.dense import is_named_model

Which = Literal["averaged", "raw"]
"""Of weights and their running mean: a training's checkpoint may hold both."""

METADATA_KEY = "swin"
RESAVE = "load it where it was made and save its state dict alone, or as safetensors"
# Keys of dicts, and first names of modules in wrappers: Lightning's, DDP's, torch.compile's, AveragedModel.
_RAW = ("state_dict", "model", "model_state", "model_state_dict", "module", "_orig_mod", "net", "network")
_AVERAGED = (
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema", "ema_model_state_dict", "ema_net"),
    *("model_ema_state_dict", "net_ema", "averaged_model", "average_model", "swa_model", "swa_state_dict"),
)
_MOST_CONTAINERS = 8  # inside each other
_LONGEST_NAME = 1000  # of a class or a tensor


class Unwrapped(NamedTuple):
    """The weights that were found.

    Attributes:
        state_dict: tensors by name.
        which: "averaged" or "raw" where the checkpoint tells; else None.
        beside: tensors of the same state dict that were not taken.
        note: which others could have been taken, or empty.
    """

    state_dict: dict[str, Tensor]
    which: Which | None = None
    beside: tuple[str, ...] = ()
    note: str = ""


def unwrap_state_dict(content: object, where: str, which: Which | None = None) -> Unwrapped:
    """The tensors by name inside what a checkpoint holds.

    Args:
        content: a state dict, or a dict with one in it.
        where: how an error names it.
        which: of weights and their mean. None: those under `state_dict`, `model` or the like; of a training of ours,
            and where there is nothing else, the mean.

    Raises:
        CheckpointError: there is no state dict inside, it holds something that is no tensor, or no such weights.
    """
    if which not in ("averaged", "raw", None):
        raise CheckpointError(f"which={which!r} is not possible: use 'averaged' or 'raw', or leave it out")
    ours = isinstance(content, Mapping) and METADATA_KEY in content
    found: list[Which] = []
    has_both = False
    for _ in range(_MOST_CONTAINERS):
        if not isinstance(content, Mapping) or not (sets := _sets(content, ours)):
            break
        content = sets[_choose(sets, which, found)]
        has_both |= len(sets) == 2
    else:
        raise CheckpointError(f"{where} holds a dict in a dict, {_MOST_CONTAINERS} deep or without end: {RESAVE}")
    state_dict = _tensors(content, where)
    prefix, beside = "", []
    while True:
        if "n_averaged" in state_dict:
            found.append("averaged")
        groups = _by_first_name(state_dict)
        if is_named_model(state_dict) or not (sets := _sets(groups, ours)):
            break
        state_dict = sets[_choose(sets, which, found)]
        has_both |= len(sets) == 2
        name = next(name for name, group in groups.items() if group is state_dict)
        beside += [f"{prefix}{other}.{key}".rstrip(".") for other in groups if other != name for key in groups[other]]
        prefix += f"{name}."
    taken: Which | None = "averaged" if "averaged" in found else next(iter(found), None)
    if (which, taken) in (("averaged", "raw"), ("averaged", None), ("raw", "averaged")):
        raise CheckpointError(f"{where} has no weights that it says are {which}: leave which={which!r} out")
    rest = "raw" if taken == "averaged" else "averaged"
    note = f"these are the {taken} weights; it has {rest} ones too: which={rest!r}" if has_both else ""
    return Unwrapped(state_dict, taken, tuple(beside), note)


def _sets(content: Mapping[str, Any], ours: bool) -> dict[Which, Any]:
    """The sets of weights in a dict, the one that is taken by default first."""
    raw, averaged = (
        next((content[key] for key in keys if isinstance(content.get(key), Mapping)), None)
        for keys in (_RAW, _AVERAGED)
    )
    meta = content.get("meta")
    if isinstance(content.get("current_model_state"), Mapping):  # Lightning's WeightAveraging
        averaged, raw, ours = raw, content["current_model_state"], True
    elif isinstance(meta, Mapping) and "mmengine_version" in meta and averaged is not None:
        averaged, raw, ours = raw, averaged, True  # its EMAHook saves them exchanged
    sets: dict[Which, Any] = {"averaged": averaged, "raw": raw} if ours else {"raw": raw, "averaged": averaged}
    return {kind: value for kind, value in sets.items() if value is not None}


def _choose(sets: Mapping[Which, object], which: Which | None, found: list[Which]) -> Which:
    """Of the sets of weights; notes in `found` what says which they are. One that has no other is raw by no word."""
    chosen = which if which is not None and which in sets else next(iter(sets))
    if len(sets) == 2 or chosen == "averaged":
        found.append(chosen)
    return chosen


def _tensors(content: object, where: str) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{where} holds a {type(content).__name__}, not a state dict: {RESAVE}")
    wrong = [_name(key) for key, value in content.items() if not (_is_short_text(key) and _is_plain(value))]
    if wrong or not content:
        what = f"entries that are not named tensors ({', '.join(wrong[:5])})" if wrong else "no tensors"
        raise CheckpointError(f"{where} holds {what}, so it is not a state dict: {RESAVE}")
    return {key: value.detach() for key, value in content.items()}


def _by_first_name(state_dict: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state_dict.items():
        first, _, rest = key.partition(".")
        groups.setdefault(first, {})[rest] = tensor
    return groups


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_quantized or value.is_meta)


def _name(key: object) -> str:
    """How a message names an entry: the key of a file may be anything of any size."""
    return key[:100] if isinstance(key, str) else f"a {type(key).__name__}"


def openmmlab_classes(content: object) -> tuple[tuple[str, ...] | None, tuple[Colour, ...] | None]:
    """Class names and colours as OpenMMLab's containers have them: `meta.CLASSES`, later `meta.dataset_meta.classes`.

    They are a convenience in a file of someone else's: what is not as expected there counts as absent.
    """
    meta = content.get("meta") if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping):
        return None, None
    inner = meta.get("dataset_meta")
    inner = inner if isinstance(inner, Mapping) else {}
    classes = meta.get("CLASSES", inner.get("classes", inner.get("CLASSES")))
    palette = meta.get("PALETTE", inner.get("palette", inner.get("PALETTE")))
    # A data set of one class has its bare name there.
    classes = (classes,) if isinstance(classes, str) else classes
    if not (isinstance(classes, list | tuple) and classes and all(map(_is_short_text, classes))):
        return None, None
    if not (isinstance(palette, list | tuple) and len(palette) == len(classes) and all(map(is_colour, palette))):
        return tuple(classes), None
    return tuple(classes), tuple((red, green, blue) for red, green, blue in palette)


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME
