"""Checkpoint files that cannot be used."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint file that cannot be used. The message names the file, what is wrong with it and the fix."""


class DamagedFileError(CheckpointError):
    """A checkpoint file that is not whole, so that fetching it again may help."""
