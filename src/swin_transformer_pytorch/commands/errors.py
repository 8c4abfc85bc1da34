"""What a command says about its own options, and the exit codes they share."""

from __future__ import annotations

EXIT_SOME_BAD = 1
"""The exit code where some of the input was bad: each is named on stderr, the rest was done."""

EXIT_INTERRUPTED = 130
"""128 + SIGINT."""


class UsageError(ValueError):
    """The command line cannot be understood or carried out. The message names the argument and the fix."""
