"""Loads a checkpoint into a model: from anywhere, in any known format, strictly, and says what it did."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..backbone.config import SwinConfig
from .adapt import ClassParameters, Fit, fit_state_dict
from .adapt_dense import backbone_of_whole_model, fit_whole_model
from .checkpoint import Checkpoint, Source, open_checkpoint
from .containers import Which
from .files import CheckpointError
from .finite import named, not_finite
from .formats import dense, find_format
from .formats.official import depths_of
from .methods import method_of
from .report import Change, LoadReport

__all__ = ["Change", "Checkpoint", "CheckpointError", "LoadReport", "Source", "load_weights", "open_checkpoint"]

_log = logging.getLogger(__name__)

_MOST_LISTED = 50  # keys of a kind in a message
# Where the answer depends on them though the tensors have one shape.
_FIELDS_OF_MEANING = ("version", "pretrained_window_sizes", "single_window")


def load_weights(model: nn.Module, source: Source, *, which: Which | None = None) -> LoadReport:
    """Loads a checkpoint into `model`, strictly: every parameter must be found, and every tensor must have a use.

    What may differ is a closed list, and the report names each case: derived buffers are recomputed; V1's bias tables
    are resized to the model's window (bicubic; those of masked pre-training by a spline on a geometric grid); the first
    convolution is adapted from RGB to `in_channels`; a 22K head gives the 1K classes their rows, and a head of any
    other class count stays fresh; a classifier's `norm` and `head` are left out of a dense model, whose norms stay
    fresh; a whole detector or segmenter takes a classifier's or backbone's file too, and its neck and heads then stay
    fresh, and of one with other classes all but the layers whose rows are classes; a backbone takes that part of a
    whole model; `mask_token` and `decoder` of masked pre-training are left out of all other models. Parameters keep
    their dtype and device. On an error the model is as it was. Weights that are NaN or infinite are loaded, with a
    warning.

    Args:
        model: any of this package's models; only its parameters are set.
        source: as `open_checkpoint` takes it; a catalogue tag needs `model.name`.
        which: of a training's checkpoint the "averaged" or the "raw" weights; see `open_checkpoint`.

    Raises:
        CheckpointError: the checkpoint cannot be read or does not fit; the message lists what is missing,
            unexpected or misshaped.
    """
    checkpoint = open_checkpoint(source, name=getattr(model, "name", None), which=which)
    target = model.state_dict()
    if any(tensor.is_meta for tensor in target.values()):
        raise CheckpointError(
            f"{checkpoint.source} cannot be loaded into a model on the meta device: build it on another"
        )
    config = getattr(model, "config", None)
    config = getattr(config, "backbone", config)  # a detector's or segmenter's
    config = config if isinstance(config, SwinConfig) else None
    file_config = checkpoint.config
    fit = _fit(checkpoint, model, target, config)
    if not fit.fits:
        raise CheckpointError(_misfit(checkpoint, fit, target))
    with torch.no_grad():
        for key, tensor in fit.tensors.items():
            target[key].copy_(tensor)
    notes = [*checkpoint.notes, *fit.notes, *_notes(checkpoint, config, file_config)]
    # As they are in the model: its type may not hold the file's numbers.
    if bad := not_finite({key: target[key] for key in fit.tensors}):
        notes.append(f"{len(bad):,} tensors hold NaN or infinite numbers, with which no answer is right: {named(bad)}")
        _log.warning("%s: %s", checkpoint.source, notes[-1])
    derived = [Change(key, "derived, so recomputed from the configuration") for key in checkpoint.derived]
    beside = [Change(key, "beside the model in the file") for key in checkpoint.beside]
    return LoadReport(
        source=checkpoint.source,
        format=checkpoint.format,
        which=checkpoint.which,
        loaded=fit.as_they_are,
        resized=tuple(fit.resized),
        sliced=tuple(fit.sliced),
        adapted=tuple(fit.adapted),
        fresh=tuple(fit.fresh),
        dropped=(*fit.dropped, *derived, *beside),
        notes=tuple(notes),
    )


def _fit(checkpoint: Checkpoint, model: nn.Module, target: Mapping[str, Tensor], config: SwinConfig | None) -> Fit:
    file_config = checkpoint.config
    windows = (
        file_config.window_size if file_config is not None else checkpoint.window_size,
        config.window_size if config is not None else None,
    )
    state_dict = checkpoint.state_dict
    dropped: list[Change] = []
    if dense.is_whole(state_dict) and getattr(model, "task", None) == "backbone":
        state_dict, dropped = backbone_of_whole_model(state_dict, target)
    class_parameters: Sequence[ClassParameters] = getattr(model, "class_parameters", tuple)()
    fit = (fit_whole_model if dense.is_whole(target) else fit_state_dict)(
        state_dict, target, class_parameters, windows=windows
    )
    fit.dropped += dropped
    return fit


def _misfit(checkpoint: Checkpoint, fit: Fit, target: Mapping[str, Tensor]) -> str:
    lines = [f"{checkpoint.source} ({checkpoint.format}) does not fit the model, which is left as it was."]
    record = find_format(checkpoint.format)
    versions = [_version(checkpoint.state_dict), _version(target)]
    if record.foreign and not record.matches(set(target)):
        lines.append(f"It is of {record.foreign}, another architecture: load it with its `{record.module}` module.")
    elif None not in versions and versions[0] != versions[1]:
        lines.append(f"It is Swin V{versions[0]}, and the model is V{versions[1]}: create a V{versions[0]} model.")
    elif dense.is_whole(checkpoint.state_dict) or dense.is_whole(target):
        lines.append(f"It is {_described(checkpoint.state_dict)}, and the model is {_described(target)}.")
        lines.append(
            "Create the model that it was made for: `swin models --task TASK` lists those for detection, segmentation "
            "and panoptic."
        )
    else:
        lines.append("Create the model that it was made for: `swin models` lists the names.")
    if 2 * len(fit.missing + fit.misshaped) > len(target):  # of another architecture altogether
        counts = f"{len(fit.missing):,} are missing and {len(fit.misshaped):,} have another shape"
        return "\n".join([*lines, f"Of the model's {len(target):,} tensors, {counts}."])
    for title, keys in (("missing", fit.missing), ("unexpected", fit.unexpected), ("misshaped", fit.misshaped)):
        if keys:
            lines.append(f"{title} ({len(keys)}):")
            lines += [f"  {key[:200]}" for key in keys[:_MOST_LISTED]]
            lines += [f"  and {len(keys) - _MOST_LISTED:,} more"] if len(keys) > _MOST_LISTED else []
    return "\n".join(lines)


def _described(state_dict: Mapping[str, Tensor]) -> str:
    """Method and size, as a state dict tells them."""
    method = method_of(state_dict)
    backbone = dense.split(state_dict)[0] if method is not None else state_dict
    first = backbone.get("patch_embed.proj.weight")
    name = method.name if method is not None else "a classifier or backbone"
    if first is None or not first.ndim:
        return f"{name} of unknown size"
    return f"{name} of embed_dim={len(first)}, depths={depths_of(backbone)}"


def _version(state_dict: Mapping[str, Tensor]) -> int | None:
    if any(key.endswith("attn.logit_scale") for key in state_dict):
        return 2
    return 1 if any(key.endswith("attn.relative_position_bias_table") for key in state_dict) else None


def _notes(checkpoint: Checkpoint, config: SwinConfig | None, file_config: SwinConfig | None) -> tuple[str, ...]:
    if config is None:
        return ()
    notes = []
    window = checkpoint.window_size
    if config.version == 2 and window is not None and window != config.window_size:
        sizes = f"{window[0]}x{window[1]} to {config.window_size[0]}x{config.window_size[1]}"
        notes.append(f"the bias is recomputed for another window, from {sizes}")
    trained = checkpoint.trained_windows
    taken = tuple(size or max(config.window_size) for size in config.pretrained_window_sizes)
    if file_config is None and len(trained) == len(taken) and trained != taken:
        notes.append(f"the bias was trained with pretrained_window_sizes={trained}; the model takes {taken}")
    for name in _FIELDS_OF_MEANING:
        if file_config is not None and getattr(file_config, name) != getattr(config, name):
            notes.append(f"the weights were made with {name}={getattr(file_config, name)}; the model has another")
    caution = find_format(checkpoint.format).caution
    if config.single_window == "unshift" and caution is not None:
        (height, width), (down, right) = config.window_size, config.stage_strides[-1]
        notes.append(caution((height * down, width * right)))
    return tuple(notes)
