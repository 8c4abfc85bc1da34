"""Checkpoint files, read without ever running code from them: safetensors, and pickles with plain types only."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..colours import Colour
from ..whole import failure, is_intact, replacing
from .containers import METADATA_KEY, RESAVE, Unwrapped, Which, openmmlab_classes, unwrap_state_dict
from .errors import CheckpointError, DamagedFileError
from .formats import FormatError, dense, detect_format, find_format
from .formats.mask2former import is_mask2former
from .pickled_arrays import is_pickled_arrays, read_pickled_arrays
from .preprocessing import DensePreprocessing

EXPORTED_ENDINGS = (".onnx", ".xml", ".pt2")
"""Of files that run without this package. Those of ONNX and OpenVINO are models for inference here as well."""

# What a file may unpack to, in times its own size (a torch file's members are stored as they are, so it is about 1),
# and what it may in any case.
_UNPACKED_RATIO, _UNPACKED_BYTES = 16, 1 << 26


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """What a checkpoint file holds.

    Attributes:
        path: where it was read from.
        state_dict: tensors by name, on the CPU, out of any container and without prefixes of wrappers.
        metadata: this package's own description of the model (`model.metadata()`), or None.
        classes: the class names beside the weights, as OpenMMLab (`meta`) and transformers write them, or None.
        preprocessing: what transformers' files beside a Mask2Former say is done to images, or None.
        palette: the colours in OpenMMLab's, (red, green, blue) of 0 to 255, one a class, or None.
        which: whether the weights are "averaged" or "raw", where the file tells; else None.
        beside: tensors of the file that belong to no model.
        notes: what else a user should know of it.
    """

    path: Path
    state_dict: dict[str, Tensor]
    metadata: dict[str, Any] | None = None
    classes: tuple[str, ...] | None = None
    preprocessing: DensePreprocessing | None = None
    palette: tuple[Colour, ...] | None = None
    which: Which | None = None
    beside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_checkpoint(path: str | os.PathLike[str], which: Which | None = None) -> CheckpointFile:
    """Reads a safetensors or torch file (.pth, .pt, .bin, .ckpt) or pickled arrays (.pkl), told apart by content.

    Containers ("model", "state_dict", ...) and prefixes ("module.", "net.") are taken off. Of pickles no code runs:
    torch's are read with `weights_only=True`, those of arrays by `pickled_arrays`, and one that wants anything but
    tensors, arrays and plain types is refused.

    Args:
        path: the file.
        which: of weights and their running mean; see `unwrap_state_dict`.

    Raises:
        CheckpointError: no such file, a directory, empty, truncated, not a checkpoint, or refused: also a file that
            unpacks to many times its size.
    """
    refuse_exported(path)
    path = Path(path)
    start = first_bytes(path)
    content: object
    metadata: object = None
    if _is_safetensors(start):
        content, metadata = _read_safetensors(path)
    elif start.startswith((b"PK\x03\x04", b"\x80")):
        if start.startswith(b"PK"):
            _check_archive(path)
        if not is_intact(path):
            raise DamagedFileError(f"{path} is damaged (its sha256 has changed): use another checkpoint")
        content = read_pickled_arrays(path) if is_pickled_arrays(start) else _read_torch(path)
        if isinstance(content, Mapping):
            metadata = content.get(METADATA_KEY)
    else:
        raise DamagedFileError(f"{path} {_mistaken_for(start)}")
    if metadata is not None and not isinstance(metadata, dict):
        raise CheckpointError(f"{path} has a {METADATA_KEY!r} entry that is not a model's description: save it again")
    found = unwrap_state_dict(content, str(path), which)
    # A tensor may be a view that repeats one number without end.
    _check_size(path, sum(tensor.numel() * tensor.element_size() for tensor in found.state_dict.values()))
    return checkpoint_file(path, found, content, metadata)


def refuse_exported(source: str | os.PathLike[str]) -> None:
    """That it is not the name of an exported file: such a file has no weights that could be taken out.

    Raises:
        CheckpointError: it is.
    """
    text = os.fspath(source)
    if text.endswith(EXPORTED_ENDINGS):
        raise CheckpointError(
            f"{text} is an exported model, which cannot be trained, converted or put into another: give the checkpoint "
            "that it was exported from. To predict with one, give the path of an .onnx or .xml file here alone, to "
            "Predictor, or as --weights without --model"
        )


def checkpoint_file(path: Path, found: Unwrapped, content: object, metadata: dict[str, Any] | None) -> CheckpointFile:
    """What was found in a file, with what stands beside it in its container."""
    classes, palette = openmmlab_classes(content)
    return CheckpointFile(
        path=path,
        state_dict=found.state_dict,
        metadata=metadata,
        classes=classes,
        palette=palette,
        which=found.which,
        beside=found.beside,
        notes=(found.note,) if found.note else (),
    )


def save_checkpoint(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, Tensor],
    metadata: Mapping[str, Any] | None = None,
    *,
    classes: Sequence[str] | None = None,
    palette: Sequence[Colour] | None = None,
) -> None:
    """Writes a checkpoint, whole or not at all: .safetensors, or a torch file (.pth, .pt, .bin).

    A torch file has the container that the format's own code looks for ("model" for the official names of a backbone,
    a classifier or Mask2Former, "state_dict" for those of other whole models and for OpenMMLab's), and none for the
    other formats.

    Args:
        path: its ending chooses the kind of file; the folder must exist.
        state_dict: tensors by name.
        metadata: the model's description (`model.metadata()`), for the file to be read without anything else.
        classes: class names for the `meta` of a torch file of OpenMMLab's or of a whole model, where the code for it
            looks for them.
        palette: their colours there.

    Raises:
        CheckpointError: unknown ending, no such folder, or it cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise CheckpointError(f"{path} must end in .safetensors, .pth, .pt or .bin, which chooses the kind of file")
    if not path.parent.is_dir():
        raise CheckpointError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    # A copy of each: safetensors wants contiguous tensors that share no memory.
    tensors = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state_dict.items()
    }
    try:
        with replacing(path) as temporary:
            if path.suffix == ".safetensors":
                header = {"format": "pt"} | ({METADATA_KEY: json.dumps(dict(metadata))} if metadata is not None else {})
                save_file(tensors, temporary, metadata=header)
            else:
                with temporary.open("wb") as file:
                    torch.save(_contained(tensors, metadata, classes, palette), file)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {failure(error)}") from error


def _contained(
    tensors: dict[str, Tensor],
    metadata: Mapping[str, Any] | None,
    classes: Sequence[str] | None,
    palette: Sequence[Colour] | None,
) -> dict[str, Any]:
    described = {METADATA_KEY: dict(metadata)} if metadata is not None else {}
    try:
        container = find_format(detect_format(tensors)).container
    except FormatError:
        container = None
    if container == "state_dict" or (container is not None and dense.is_whole(tensors)):
        # Their code reads `meta` without looking whether it is there.
        meta: dict[str, Any] = {"CLASSES": tuple(classes)} if classes is not None else {}
        if palette is not None:
            meta["PALETTE"] = [list(colour) for colour in palette]
        # Mask2Former's authors' code is of another library than their code for the other methods.
        return {"meta": meta, container if is_mask2former(tensors) else "state_dict": tensors, **described}
    container = "model" if described else container
    return {container: tensors, **described} if container else dict(tensors)


def first_bytes(path: Path) -> bytes:
    """Of a file.

    Raises:
        CheckpointError: there is none, it is empty, or it cannot be read.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: name the checkpoint file in it")
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: check the path")
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if not start:
        raise DamagedFileError(f"{path} is empty: fetch it again")
    return start


def _is_safetensors(start: bytes) -> bool:
    return len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < 100_000_000


def _mistaken_for(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page, not a checkpoint: fetch the file itself, not the page that shows it"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file it stands for: run `git lfs pull`"
    return "is not a checkpoint: it is neither safetensors nor a torch file; fetch it again"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], object]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 -- not a dict
        return tensors, json.loads(header[METADATA_KEY]) if METADATA_KEY in header else None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged or cut short ({first_line(error)}): fetch it again") from error


def _check_archive(path: Path) -> None:
    """That a zip does not unpack to more than it may, and that its members are whole: torch passes over their CRCs.

    Where all are wrong, none were written (`torch.serialization.set_crc32_options`).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_size(path, sum(member.file_size for member in members))
            damaged = [member.filename for member in members if not _is_whole(archive, member)]
    except CheckpointError:
        raise
    except Exception as error:  # What a broken archive raises is not documented.
        raise DamagedFileError(f"{path} is damaged or cut short ({first_line(error)}): fetch it again") from error
    if 0 < len(damaged) < len(members):
        raise DamagedFileError(f"{path} is damaged (in {damaged[0][:100]}, whose CRC-32 has changed): fetch it again")


def _is_whole(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(member) as file:
            while file.read(1 << 20):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False
    return True


def _check_size(path: Path, unpacked: int) -> None:
    size = path.stat().st_size
    if unpacked > max(_UNPACKED_RATIO * size, _UNPACKED_BYTES):
        raise CheckpointError(
            f"{path} is refused: it has {size:,} bytes and would unpack to {unpacked:,}, which no checkpoint does; "
            "fetch it again, from where it was published"
        )


# Training settings that official and torchvision checkpoints carry: read as a plain dict, and never looked at.
# Nothing of the packages that these names are from is imported.
_STAND_INS: list[Any] = [(OrderedDict, "yacs.config.CfgNode"), (OrderedDict, "argparse.Namespace")]


def _read_torch(path: Path) -> object:
    try:
        # It warns of pickles that it may not understand; those end in an error anyway.
        with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        reason = str(error).partition("WeightsUnpickler error:")[2] or str(error)
        if wanted := re.search(r"(?:GLOBAL|unrecognized function|but got) (\S+)", reason):
            raise CheckpointError(
                f"{path} is refused: it asks for {wanted[1]} when it is read, which could run code of the file's "
                f"maker; {RESAVE}"
            ) from None
        raise DamagedFileError(f"{path} is damaged or cut short ({first_line(reason)}): fetch it again") from error
    except Exception as error:  # What a broken pickle or archive raises is not documented.
        raise DamagedFileError(f"{path} is damaged or cut short ({first_line(error)}): fetch it again") from error


def first_line(error: object) -> str:
    """Of what it says, shortened; its type's name where it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()[:160].rstrip(" .:")
