"""Where layer normalisation has a kernel of the package's own."""

from __future__ import annotations

from torch import nn

from .attention import choose_implementation
from .cpu.choice import why_not
from .cpu.layer_norm import DTYPES, MULTIPLE
from .plain import is_ordinary


def has_own_layer_norm(norm: nn.LayerNorm) -> bool:
    """Whether the CPU's own kernel can do what that module does, and is known to be the fastest here."""
    return (
        len(norm.normalized_shape) == 1
        and norm.normalized_shape[0] % MULTIPLE == 0
        and norm.elementwise_affine
        and is_ordinary(norm.weight)
        and norm.weight.dtype in DTYPES
        and why_not(norm.weight.dtype) is None
        and choose_implementation("cpu", training=False) == "cpu"
    )
