"""What can be wrong with an evaluation."""

from __future__ import annotations


class EvaluationError(ValueError):
    """A model and a data set that cannot be evaluated together. The message says what does not fit."""
