"""Loads a checkpoint into a model: from anywhere, in any known format, strictly, and says what it did."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone.config import ConfigError, SwinConfig
from .adapt import Fit, fit_state_dict
from .catalog import RECORDS, CatalogError, WeightsRecord, find_record, records
from .download import fetch
from .files import CheckpointError, read_checkpoint, unwrap_state_dict
from .formats import FormatError, detect_format, is_derived, to_official, trained_windows, window_of_buffers
from .imagenet_classes import class_names
from .preprocessing import Preprocessing, PreprocessingError
from .report import Change, LoadReport

__all__ = ["Change", "Checkpoint", "CheckpointError", "LoadReport", "Source", "load_weights", "open_checkpoint"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILE_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
# Where the answer depends on them though the tensors have one shape.
_FIELDS_OF_MEANING = ("version", "pretrained_window_sizes", "single_window")
# What a model's own description must hold.
_DESCRIPTION: dict[str, type | UnionType] = {
    "task": str,
    "name": str | None,
    "config": dict,
    "num_classes": int,
    "classes": list | None,
    "preprocessing": dict | None,
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint in memory, under the official names, with all that is known of it.

    Attributes:
        source: how messages name it.
        format: the format that it was in.
        state_dict: parameters under the official names ("seed": under its own).
        derived: the derived buffers that were left out, by their names in the file.
        window_size: the largest window that those buffers are of, or None.
        trained_windows: V2: the window that each stage's bias was trained with, where those buffers tell; else empty.
        metadata: this package's own description of the model, or None.
        record: its catalogue record, or None.
    """

    source: str
    format: str
    state_dict: dict[str, Tensor]
    derived: tuple[str, ...] = ()
    window_size: tuple[int, int] | None = None
    trained_windows: tuple[int, ...] = ()
    metadata: dict[str, Any] | None = None
    record: WeightsRecord | None = field(default=None, repr=False)

    @property
    def num_classes(self) -> int:
        """Rows of its head; 0 is none."""
        head = self.state_dict.get("head.weight")
        return head.shape[0] if head is not None and head.ndim == 2 else 0

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names in head order, where they are known."""
        if self.metadata is not None:
            names = self.metadata["classes"]
        else:
            names = class_names(self.record.classes) if self.record is not None and self.record.classes else None
        return tuple(names) if names is not None and len(names) == self.num_classes else None

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing that belongs to it, where it is known."""
        values = self.metadata["preprocessing"] if self.metadata is not None else None
        if values is not None:
            return Preprocessing.from_dict(values)
        return self.record.preprocessing if self.record is not None else None

    @property
    def config(self) -> SwinConfig | None:
        """The configuration of the model that this package's own description is of; None where there is none."""
        return SwinConfig.from_dict(self.metadata["config"]) if self.metadata is not None else None


Source = str | os.PathLike[str] | WeightsRecord | Checkpoint | Mapping[str, Any]


def open_checkpoint(source: Source, *, name: str | None = None) -> Checkpoint:
    """Reads a checkpoint from wherever it is, downloading it if need be.

    Args:
        source: a path; a URL (http, https, file); "hf:owner/repo", "hf:owner/repo/file" or a hub id "owner/repo"; a
            catalogue record, "name.tag" or, with `name`, a tag; or a state dict. Of a text that is several of these,
            a tag comes first, then a path ("./in1k" is always a path), then "name.tag".
        name: the variant whose catalogue tags are meant.

    Raises:
        CheckpointError: nothing readable there, or not of a Swin model.
        CatalogError: no such tag.
        DownloadError: it cannot be fetched.
    """
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, WeightsRecord):
        return _open_record(source)
    if isinstance(source, Mapping):
        return _understood(unwrap_state_dict(source, "the state dict given"), "state dict")
    if not isinstance(source, str | os.PathLike):
        raise CheckpointError(
            f"weights={source!r} is none: give 'default', a catalogue tag, a path, a URL, a hub id or a state dict"
        )
    text = os.fspath(source)
    if isinstance(source, str):
        record = _find_tag(text, name)
        if record is not None:
            return _open_record(record)
        if "://" in text or text.startswith("hf:"):
            return _open_file(fetch(text), source=text)
        if not Path(text).exists():
            return _open_file(fetch(f"hf:{_as_hub_id(text, name)}"), source=text)
    return _open_file(Path(text), source=text)


def load_weights(model: nn.Module, source: Source) -> LoadReport:
    """Loads a checkpoint into `model`, strictly: every parameter must be found, and every tensor must have a use.

    What may differ is a closed list, and the report names each case: derived buffers are recomputed; V1's bias tables
    are resized to the model's window (bicubic); the first convolution is adapted from RGB to `in_channels`; a 22K head
    gives the 1K classes their rows, and a head of any other class count stays fresh; a classifier's `norm` and `head`
    are left out of a dense model, whose norms stay fresh; `mask_token` and `decoder` of masked pre-training are left
    out. Parameters keep their dtype and device. On an error the model is as it was.

    Args:
        model: any of this package's models; only its parameters are set.
        source: as `open_checkpoint` takes it; a catalogue tag needs `model.name`.

    Raises:
        CheckpointError: the checkpoint cannot be read or does not fit; the message lists all that is missing,
            unexpected or misshaped.
    """
    checkpoint = open_checkpoint(source, name=getattr(model, "name", None))
    target = model.state_dict()
    if any(tensor.is_meta for tensor in target.values()):
        raise CheckpointError(
            f"{checkpoint.source} cannot be loaded into a model on the meta device: build it on another"
        )
    config = getattr(model, "config", None)
    config = config if isinstance(config, SwinConfig) else None
    file_config = checkpoint.config
    fit = fit_state_dict(
        checkpoint.state_dict,
        target,
        source_window=file_config.window_size if file_config is not None else checkpoint.window_size,
        target_window=config.window_size if config is not None else None,
    )
    if not fit.fits:
        raise CheckpointError(_misfit(checkpoint, fit, target))
    with torch.no_grad():
        for key, tensor in fit.tensors.items():
            target[key].copy_(tensor)
    derived = [Change(key, "derived, so recomputed from the configuration") for key in checkpoint.derived]
    return LoadReport(
        source=checkpoint.source,
        format=checkpoint.format,
        loaded=fit.as_they_are,
        resized=tuple(fit.resized),
        sliced=tuple(fit.sliced),
        adapted=tuple(fit.adapted),
        fresh=tuple(fit.fresh),
        dropped=(*fit.dropped, *derived),
        notes=_notes(checkpoint, config, file_config),
    )


def _find_tag(text: str, name: str | None) -> WeightsRecord | None:
    variant, dot, tag = text.partition(".")
    if dot and records(variant) and not text.endswith(_FILE_ENDINGS):
        return find_record(variant, tag) if not Path(text).exists() else None
    if name is not None and (text == "default" or any(record.tag == text for record in records(name))):
        return find_record(name, text)
    return None


def _as_hub_id(text: str, name: str | None) -> str:
    """A text that is neither tag, address nor file: a hub id, or a mistake."""
    if _HUB_ID.fullmatch(text) and not text.endswith(_FILE_ENDINGS):
        return text
    if text.endswith(_FILE_ENDINGS) or "/" in text or os.sep in text:
        raise CheckpointError(f"{text} does not exist: check the path")
    tags = ", ".join(record.tag for record in records(name)) if name is not None else ""
    hint = f"; tags of {name}: default, {tags}" if tags else ""
    raise CatalogError(f"weights={text!r} is no catalogue tag, existing file, URL or hub id (owner/repository){hint}")


def _open_record(record: WeightsRecord) -> Checkpoint:
    return _open_file(fetch(record.source, sha256=record.sha256), source=record.full_name, record=record)


def _open_file(path: Path, *, source: str, record: WeightsRecord | None = None) -> Checkpoint:
    file = read_checkpoint(path)
    if file.metadata is not None:
        _check_description(file.metadata, source)
    # A published file by its own name is what the catalogue says it is.
    known = record or _published(urllib.parse.urlsplit(source).path)
    return _understood(file.state_dict, source, metadata=file.metadata, record=known)


def _published(path: str) -> WeightsRecord | None:
    """The record whose file has that name. Hub files are all named alike, so they are told by their repository."""
    name = Path(path).name
    found = [
        r for r in RECORDS if r.source == f"hf:{path}" or (name.endswith(".pth") and r.source.endswith(f"/{name}"))
    ]
    return found[0] if found else None


def _understood(
    state_dict: dict[str, Tensor],
    source: str,
    *,
    metadata: dict[str, Any] | None = None,
    record: WeightsRecord | None = None,
) -> Checkpoint:
    try:
        found = detect_format(state_dict)
        named = to_official(state_dict, found)
    except FormatError as error:
        raise CheckpointError(f"{source} is {error}") from error
    return Checkpoint(
        source=source,
        format=found,
        state_dict=named,
        derived=tuple(key for key in state_dict if is_derived(key)) if found != "seed" else (),
        window_size=window_of_buffers(state_dict),
        trained_windows=trained_windows(state_dict),
        metadata=metadata,
        record=record,
    )


def _check_description(metadata: dict[str, Any], source: str) -> None:
    """That it is what a model's `metadata()` gives, since anyone may have written the file."""
    if metadata.get("format_version", 1) != 1:
        raise CheckpointError(
            f"{source} has format_version={metadata['format_version']!r}, and this version reads 1: "
            "pip install --upgrade swin-transformer-pytorch"
        )
    for key, kind in _DESCRIPTION.items():
        if key not in metadata or not isinstance(metadata[key], kind):
            found = f"{key}={metadata[key]!r}"[:80] if key in metadata else f"no {key!r}"
            raise CheckpointError(f"{source} has a damaged description of its model, with {found}: save it again")
    classes = metadata["classes"]
    if classes is not None and not (
        len(classes) == metadata["num_classes"] and all(isinstance(name, str) for name in classes)
    ):
        raise CheckpointError(
            f"{source} has a damaged description of its model, whose classes are not {metadata['num_classes']} names: "
            "save it again"
        )
    try:
        SwinConfig.from_dict(metadata["config"])
        if metadata["preprocessing"] is not None:
            Preprocessing.from_dict(metadata["preprocessing"])
    except (ConfigError, PreprocessingError, TypeError) as error:
        raise CheckpointError(f"{source} describes a model that cannot be built: {error}") from error


def _misfit(checkpoint: Checkpoint, fit: Fit, target: Mapping[str, Tensor]) -> str:
    lines = [f"{checkpoint.source} ({checkpoint.format}) does not fit the model, which is left as it was."]
    versions = [_version(checkpoint.state_dict), _version(target)]
    if checkpoint.format == "seed" and not any(key.startswith("stage1.") for key in target):
        lines.append("It is of swin-transformer-pytorch 0.4.1, another architecture: load it with its `compat` module.")
    elif None not in versions and versions[0] != versions[1]:
        lines.append(f"It is Swin V{versions[0]}, and the model is V{versions[1]}: create a V{versions[0]} model.")
    else:
        lines.append("Create the model that it was made for: `swin models` lists the names.")
    for title, keys in (("missing", fit.missing), ("unexpected", fit.unexpected), ("misshaped", fit.misshaped)):
        if keys:
            lines.append(f"{title} ({len(keys)}):")
            lines += [f"  {key}" for key in keys]
    return "\n".join(lines)


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
    sides = [window * stride for window, stride in zip(config.window_size, config.stage_strides[-1], strict=True)]
    if config.single_window == "unshift" and checkpoint.format == "torchvision":
        notes.append(
            "torchvision pads a map that is smaller than its window, where the official code shrinks the window: "
            f"images under {sides[0]}x{sides[1]} pixels give other answers than there"
        )
    if config.single_window == "unshift" and checkpoint.format == "timm":
        notes.append(
            "timm decides for height and width apart whether one window covers the map, the official code for both: "
            f"images with only one side over {min(sides)} pixels give other answers than there"
        )
    return tuple(notes)
