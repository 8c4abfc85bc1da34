"""What a command says about its own options."""

from __future__ import annotations


class UsageError(ValueError):
    """The command line cannot be understood or carried out. The message names the argument and the fix."""
