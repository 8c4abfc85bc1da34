"""The files of a run, as Lightning's strategies write and read them: whole, sealed, and the one before kept."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from ...weights.files import CheckpointError, DamagedFileError
from ...whole import failure, is_intact, replacing, seal
from .processes import from_files_of_first

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
DAMAGED = "damaged.ckpt"
FOLDER = "folder"
"""In a checkpoint: the name of the folder beside it that holds its tensors, where devices write them in parts."""

_log = logging.getLogger(__name__)


class CheckpointFiles(CheckpointIO):
    """Writes beside the target and puts the file in its place when it is on the disk; a last.ckpt becomes previous.ckpt
    then.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        try:
            with replacing(path, keep=path.with_name(PREVIOUS) if path.name == LAST else None) as temporary:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
                seal(temporary)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} cannot be written ({failure(error)}); the checkpoint before it is whole: make room or mend "
                "it, and continue with --resume"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return from_files_of_first(lambda: read_training_checkpoint(Path(path)))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def read_training_checkpoint(path: Path) -> dict[str, Any]:
    """A last.ckpt, plain types only.

    Raises:
        DamagedFileError: it is not whole, or not as it was written.
        CheckpointError: it is none of ours.
    """
    try:
        intact = is_intact(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True) if intact else None
    except Exception as error:  # torch raises many kinds for a damaged file, and says things that do not help
        raise DamagedFileError(f"{path} cannot be resumed from: it is damaged or no checkpoint") from error
    if not intact:
        raise DamagedFileError(f"{path} cannot be resumed from: it is damaged (its sha256 has changed)")
    if not isinstance(checkpoint, dict) or not {"swin", "recipe", "loops"} <= checkpoint.keys():
        raise CheckpointError(f"{path} cannot be resumed from: it is no last.ckpt of a training run of this package")
    if FOLDER in checkpoint and not (folder := path.with_name(checkpoint[FOLDER]) / ".metadata").is_file():
        raise DamagedFileError(f"{path} cannot be resumed from: there is no {folder}")
    return checkpoint


def remove_other_folders(folder: Path) -> None:
    """Removes folders of tensors that neither last.ckpt nor the one before it names."""
    others = [*folder.glob("shards-*")]
    files = [path for path in (folder / LAST, folder / PREVIOUS) if others and path.exists()]
    named = {read_training_checkpoint(path).get(FOLDER) for path in files}
    for other in others:
        if other.name not in named:
            shutil.rmtree(other, ignore_errors=True)


def holds_run(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from. (The order matters while another process puts one in place.)"""
    return (folder / PREVIOUS).exists() or (folder / LAST).exists()


def read_newest(folder: Path) -> dict[str, Any]:
    """The newest whole checkpoint of a run, while another process takes it up."""
    try:
        return read_training_checkpoint(folder / LAST)
    except DamagedFileError:
        previous = folder / PREVIOUS
        return read_training_checkpoint(previous if previous.exists() else folder / LAST)


def take_up(folder: Path) -> dict[str, Any]:
    """The newest whole checkpoint of a run, which is last.ckpt afterwards. A damaged one is kept as damaged.ckpt.

    Raises:
        CheckpointError: none is whole, or last.ckpt is none of ours.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    try:
        if last.exists() or not previous.exists():
            return read_training_checkpoint(last)
        checkpoint = read_training_checkpoint(previous)  # the run was killed between two renames
    except DamagedFileError as error:
        if not (last.exists() and previous.exists()):
            raise
        try:
            checkpoint = read_training_checkpoint(previous)
        except CheckpointError as other:
            raise CheckpointError(f"{error}; and {other}") from error
        steps = checkpoint["recipe"].get("trainer", {}).get("checkpoint_every_steps", "some")
        os.replace(last, folder / DAMAGED)
        _log.warning(
            "%s; it is %s now, and the checkpoint before it is taken: up to %s steps are done again",
            *(error, DAMAGED, steps),
        )
    os.replace(previous, last)
    return checkpoint
