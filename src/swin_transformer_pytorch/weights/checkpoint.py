"""A checkpoint in memory: from anywhere, in any known format, under the official names."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Any

from torch import Tensor

from ..backbone.config import ConfigError, SwinConfig
from ..colours import Colour, is_colour
from ..names import did_you_mean
from .catalog import RECORDS, SHIPPED, CatalogError, WeightsRecord, find_record, records
from .containers import Which, unwrap_state_dict
from .dense_classes import CLASS_SETS, class_palette, dense_class_names, thing_classes
from .download import WEIGHTS_OPTIONS, fetch, fetch_beside
from .files import CheckpointError, CheckpointFile, DamagedFileError, checkpoint_file, refuse_exported
from .folders import CONFIG, PREPROCESSOR, described_by, read_files
from .formats import FormatError, dense, detect_format, to_official
from .formats.official import is_derived, trained_windows, window_of_buffers
from .imagenet_classes import class_names
from .limits import check_extent
from .methods import method_of, num_classes_of
from .preprocessing import DensePreprocessing, Preprocessing, PreprocessingError, preprocessing_from_dict

DENSE_TASKS = ("detection", "segmentation", "panoptic")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
_FILE_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".pkl")
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
        meta_classes: the class names that other code wrote beside the weights, or None.
        meta_palette: the colours that it wrote, or None.
        meta_preprocessing: what transformers' files beside a Mask2Former say is done to images, or None.
        which: whether they are "averaged" or "raw" weights, where that is known; else None.
        beside: tensors that were in the same state dict and not in the model.
        notes: what else a user should know.
    """

    source: str
    format: str
    state_dict: dict[str, Tensor]
    derived: tuple[str, ...] = ()
    window_size: tuple[int, int] | None = None
    trained_windows: tuple[int, ...] = ()
    metadata: dict[str, Any] | None = None
    record: WeightsRecord | None = field(default=None, repr=False)
    meta_classes: tuple[str, ...] | None = field(default=None, repr=False)
    meta_palette: tuple[Colour, ...] | None = field(default=None, repr=False)
    meta_preprocessing: DensePreprocessing | None = field(default=None, repr=False)
    which: Which | None = None
    beside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """What it is for: "detection", "segmentation" or "panoptic" where it is a whole model, else "classification".

        A backbone, and one of masked pre-training, count as a classifier without a head. Of a task that names do not
        tell, the file's word is taken, or the catalogue's.
        """
        if (method := method_of(self.state_dict)) is not None:
            told = self.metadata["task"] if self.metadata is not None else self.record.task if self.record else None
            return told if told in method.also else method.task
        said: str = self.metadata["task"] if self.metadata is not None else "classification"
        return "classification" if said in DENSE_TASKS else said

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it may be for: `task`, and where nothing but the names tell it, all tasks that the same names have."""
        method = method_of(self.state_dict)
        told = self.metadata is not None or self.record is not None
        return (self.task,) if method is None or told else (self.task, *method.also)

    @property
    def num_classes(self) -> int:
        """Rows of its head, a detector's background not counted; 0 is none."""
        return num_classes_of(self.state_dict)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names in head order, where they are known."""
        if self.metadata is not None:
            names = self.metadata["classes"]
        elif self.meta_classes or self.task in DENSE_TASKS:
            names = self.meta_classes or (dense_class_names(self._class_set) if self._class_set else None)
        else:
            names = class_names(self.record.classes) if self.record is not None and self.record.classes else None
        return tuple(names) if names is not None and len(names) == self.num_classes else None

    @property
    def palette(self) -> tuple[Colour, ...] | None:
        """The colour, (red, green, blue) of 0 to 255, that each class is usually drawn in, where they are known."""
        if self.metadata is not None:
            colours = self.metadata.get("palette")
        else:
            colours = self.meta_palette or (class_palette(self._class_set) if self._class_set else None)
        if colours is None or len(colours) != self.num_classes:
            return None
        return tuple((red, green, blue) for red, green, blue in colours)

    @property
    def things(self) -> tuple[int, ...] | None:
        """The indices of those classes that are things, where the catalogue tells whose classes they are."""
        known = self._class_set
        return thing_classes(known) if known and len(dense_class_names(known)) == self.num_classes else None

    @property
    def preprocessing(self) -> Preprocessing | DensePreprocessing | None:
        """The preprocessing that belongs to it, where it is known."""
        values = self.metadata["preprocessing"] if self.metadata is not None else None
        if values is not None:
            return preprocessing_from_dict(values)
        if self.meta_preprocessing is not None:
            return self.meta_preprocessing
        return self.record.preprocessing if self.record is not None else None

    @property
    def config(self) -> SwinConfig | None:
        """The backbone's configuration in this package's own description; None where there is none."""
        return _backbone_config(self.metadata) if self.metadata is not None else None

    def backbone_alone(self) -> Checkpoint:
        """Of a whole detector or segmenter its backbone, for a model of another kind to start from."""
        return replace(self, state_dict=dense.split(self.state_dict)[0])

    @property
    def _class_set(self) -> str | None:
        """The data set whose classes it has, where the catalogue tells."""
        known = self.record.classes if self.record is not None else None
        return known if known in CLASS_SETS else None


Source = str | os.PathLike[str] | WeightsRecord | Checkpoint | Mapping[str, Any]


def open_checkpoint(source: Source, *, name: str | None = None, which: Which | None = None) -> Checkpoint:
    """Reads a checkpoint from wherever it is, downloading it if need be.

    Args:
        source: a path, of a file or of a folder as transformers writes it; a URL (http, https, file);
            "hf:owner/repo", "hf:owner/repo/file" or a hub id "owner/repo", each also as "owner/repo@revision"; a
            catalogue record, "name.tag" or, with `name`, a tag; a name of `SHIPPED`, such as "fashion"; or a state
            dict. Of a text that is several of these, the last and a tag come first, then a path ("./in1k" is always
            a path), then "name.tag".
        name: the variant whose catalogue tags are meant.
        which: of a training's checkpoint the "averaged" or the "raw" weights. None: the averaged of ours, and what
            `state_dict`, `model` or the like holds of others'.

    Raises:
        CheckpointError: nothing readable there, not of a Swin model, or without such weights.
        CatalogError: no such tag.
        DownloadError: it cannot be fetched.
    """
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, WeightsRecord):
        return _open_record(source, which)
    if isinstance(source, Mapping):
        found = unwrap_state_dict(source, "the state dict given", which)
        return _understood(checkpoint_file(Path(), found, source, None), "state dict")
    if not isinstance(source, str | os.PathLike):
        raise CheckpointError(
            f"weights={source!r} is none: give 'default', a catalogue tag, a path, a URL, a hub id or a state dict"
        )
    refuse_exported(source)
    text = os.fspath(source)
    if isinstance(source, str):
        if text in SHIPPED:
            return _open_files(SHIPPED[text], source=text, which=which)
        record = _find_tag(text, name)
        if record is not None:
            return _open_record(record, which)
        if "://" in text or text.startswith("hf:"):
            return _open_fetched(text, source=text, which=which)
        if not Path(text).exists():
            return _open_fetched(f"hf:{_as_hub_id(text, name)}", source=text, which=which)
    return _open_files(Path(text), source=text, which=which)


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
    tags = ["default", *(record.tag for record in records(name))] if name is not None else []
    some = ", ".join(tags[1:] and tags)
    raise CatalogError(
        f"{text!r} is no catalogue tag, existing file, URL or hub id (owner/repository); "
        f"{did_you_mean(text, [*SHIPPED, *tags])}Give one of these as {WEIGHTS_OPTIONS}, or a model in the "
        f"package: {', '.join(SHIPPED)}{f'; tags of {name}: {some}' if some else ''}"
    )


def _open_record(record: WeightsRecord, which: Which | None) -> Checkpoint:
    return _open_fetched(record.source, source=record.full_name, record=record, which=which)


def _open_fetched(
    address: str, *, source: str, record: WeightsRecord | None = None, which: Which | None = None
) -> Checkpoint:
    """Opens what is at an address. A damaged copy of it, kept from an earlier time, is replaced once."""
    sha256 = record.sha256 if record is not None else None
    try:
        path = fetch(address, sha256=sha256)
        return _open_files(path, source=source, record=record, which=which, address=address)
    except DamagedFileError:
        if address.startswith("file:"):
            raise
        path = fetch(address, sha256=sha256, again=True)
        return _open_files(path, source=source, record=record, which=which, address=address)


def _open_files(
    path: Path,
    *,
    source: str,
    record: WeightsRecord | None = None,
    which: Which | None = None,
    address: str = "",
) -> Checkpoint:
    file = read_files(path, which)
    # A published file by its own name is what the catalogue says it is.
    known = record or _published(urllib.parse.urlsplit(source).path)
    if known is None and file.metadata is None and fetch_beside(address, CONFIG, PREPROCESSOR):
        file = described_by(file, path.parent)
    if file.metadata is not None:
        check_description(file.metadata, source)
    return _understood(file, source, record=known)


def _published(path: str) -> WeightsRecord | None:
    """The record whose file has that name. Hub files are all named alike, so they are told by their repository."""
    name = Path(path).name
    found = [
        r
        for r in RECORDS
        if r.source == f"hf:{path}" or (name.endswith((".pth", ".pkl")) and r.source.endswith(f"/{name}"))
    ]
    return found[0] if found else None


def _understood(file: CheckpointFile, source: str, *, record: WeightsRecord | None = None) -> Checkpoint:
    state_dict = file.state_dict
    try:
        found = detect_format(state_dict)
        named = to_official(state_dict, found)
        window_size, trained = window_of_buffers(state_dict), trained_windows(state_dict)
    except FormatError as error:
        raise CheckpointError(f"{source} is {error}") from error
    # Names of these formats on tensors of any shape, type and number.
    except (RuntimeError, IndexError, ArithmeticError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(f"{source} holds tensors that no Swin model has ({why}): save it again") from error
    return Checkpoint(
        source=source,
        format=found,
        state_dict=named,
        derived=tuple(key for key in state_dict if is_derived(key) and key not in named),
        window_size=window_size,
        trained_windows=trained,
        metadata=file.metadata,
        record=record,
        meta_classes=file.classes,
        meta_palette=file.palette,
        meta_preprocessing=file.preprocessing,
        which=file.which,
        beside=file.beside,
        notes=file.notes,
    )


def check_description(metadata: dict[str, Any], source: str) -> None:
    """That it is what a model's `metadata()` gives, since anyone may have written the file.

    Raises:
        CheckpointError: it is not; `source` is how the message names the file.
    """
    check_extent(metadata, source)
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
    palette = metadata.get("palette")
    if palette is not None and not (isinstance(palette, list) and all(map(is_colour, palette))):
        raise CheckpointError(
            f"{source} has a damaged description of its model, whose palette is not a list of colours: save it again"
        )
    try:
        _backbone_config(metadata)
        if metadata["preprocessing"] is not None:
            preprocessing_from_dict(metadata["preprocessing"])
    except (ConfigError, PreprocessingError, TypeError) as error:
        raise CheckpointError(f"{source} describes a model that cannot be built: {error}") from error


def _backbone_config(metadata: Mapping[str, Any]) -> SwinConfig:
    """That of the model, or of a dense model's backbone, whose windows keep their size where nothing else is said."""
    config, task = metadata["config"], metadata["task"]
    if task in DENSE_TASKS:
        return SwinConfig.from_dict({"single_window": "keep", **config.get("backbone", {})})
    return SwinConfig.from_dict(config if task == "classification" else config.get("backbone", config))
