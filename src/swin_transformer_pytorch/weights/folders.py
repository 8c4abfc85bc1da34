"""Checkpoints of several files: shards with an index, and folders as transformers writes them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from ..backbone.config import ConfigError
from .containers import Which
from .errors import CheckpointError, DamagedFileError
from .files import CheckpointFile, read_checkpoint
from .formats import FormatError, transformers_config
from .preprocessing import DensePreprocessing, Preprocessing, PreprocessingError

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
INDEX = ".index.json"
WEIGHTS = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""What a folder's weights are called, in the order of asking."""

_Told = TypeVar("_Told", Preprocessing, DensePreprocessing)

_MOST_BYTES = 1 << 26  # of a text file


def read_files(path: str | os.PathLike[str], which: Which | None = None) -> CheckpointFile:
    """A checkpoint file, as `read_checkpoint` reads it, or the index of several, or a folder with either.

    A folder of transformers also tells model, class names and preprocessing.

    Raises:
        CheckpointError: there is none, or it cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        found = next((path / name for name in WEIGHTS if (path / name).exists()), None)
        if found is None:
            raise CheckpointError(f"{path} is a folder without {' or '.join(WEIGHTS)}: name the checkpoint file in it")
        return described_by(read_files(found, which), path)
    if not path.name.endswith(INDEX) or not path.exists():
        return read_checkpoint(path, which)
    tensors: dict[str, Tensor] = {}
    for name in shards(path):
        tensors |= read_checkpoint(path.with_name(name), which).state_dict
    return CheckpointFile(path=path, state_dict=tensors)


def shards(index: Path) -> list[str]:
    """The names of the files, beside it, that an index lists.

    Raises:
        CheckpointError: it is none, or leads out of its folder.
    """
    listed = _read(index).get("weight_map")
    if not isinstance(listed, Mapping) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise DamagedFileError(f"{index} is no index of checkpoint files: it has no weight_map; fetch it again")
    names = sorted(set(listed.values()))
    if outside := [name for name in names if name != Path(name).name or name.endswith(INDEX)]:
        raise CheckpointError(f"{index} is refused: it lists {outside[0][:100]!r}, which is no file beside it")
    return names


def described_by(file: CheckpointFile, folder: Path) -> CheckpointFile:
    """The same checkpoint with what transformers' files beside it say; one of ours says all that itself.

    Raises:
        CheckpointError: they describe a model that cannot be.
    """
    path = folder / CONFIG
    if file.metadata is not None or not path.exists():
        return file
    config = _read(path)
    classes = transformers_config.labels(config)
    if not transformers_config.is_classifier(config):
        file = dataclasses.replace(file, classes=file.classes or classes)
        if not transformers_config.is_mask2former(config) or not (folder / PREPROCESSOR).exists():
            return file
        known, notes = _told(folder / PREPROCESSOR, transformers_config.read_mask_preprocessing)
        return dataclasses.replace(file, preprocessing=known, notes=(*file.notes, *notes))
    try:
        backbone = transformers_config.read_config(config)
    except (FormatError, ConfigError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path} describes a model that cannot be built: {error}") from error
    preprocessing, notes = _told(folder / PREPROCESSOR, transformers_config.read_preprocessing)
    head = file.state_dict.get("classifier.weight")
    count = len(head) if head is not None and head.ndim else 0
    masked = any(key.startswith("decoder.") for key in file.state_dict)
    metadata = {
        "task": "pretraining" if masked else "classification",
        "name": None,
        "config": {"backbone": backbone.to_dict()} if masked else backbone.to_dict(),
        "num_classes": count,
        "multi_label": config.get("problem_type") == transformers_config.MULTI_LABEL,
        "classes": list(classes) if classes is not None and len(classes) == count else None,
        "preprocessing": preprocessing.to_dict() if preprocessing is not None else None,
    }
    return dataclasses.replace(file, metadata=metadata, notes=(*file.notes, *notes))


def _told(path: Path, read: Callable[[dict[str, Any]], _Told]) -> tuple[_Told | None, tuple[str, ...]]:
    if not path.exists():
        return None, (f"there is no {PREPROCESSOR}, so how images are prepared is not known",)
    try:
        return read(_read(path)), ()
    except (PreprocessingError, TypeError) as error:
        return None, (f"{PREPROCESSOR} is left out: {error}",)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"{path} is refused: it has over {_MOST_BYTES:,} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged or cut short ({str(error)[:100]}): fetch it again") from error
    if not isinstance(values, dict):
        raise DamagedFileError(f"{path} holds a {type(values).__name__}, not what transformers writes: fetch it again")
    return values
