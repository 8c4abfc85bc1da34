"""Kernels built ahead of time, which the wheels for Linux bring (`tools/make_wheels.py`): they need no compiler.

One library for each kind of processor lies in `libraries/`, with its sha256. Its name holds what it was built of, so
that one of other sources is never loaded.
"""

from __future__ import annotations

import logging
import os
import platform
from pathlib import Path

import torch

from .build import FLAGS, is_whole, sources_digest

_log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "libraries"
# By the machine and torch's word for its vectors: zig's target and the features that torch has then seen for sure.
# Every aarch64 has NEON.
KINDS = {
    "x86_64-AVX512_BF16": ("x86_64-linux-gnu.2.17", "x86_64_v4+avx512bf16"),
    "x86_64-AVX512": ("x86_64-linux-gnu.2.17", "x86_64_v4"),
    "x86_64-AVX2": ("x86_64-linux-gnu.2.17", "x86_64+avx2+fma"),
    "aarch64": ("aarch64-linux-gnu.2.17", "generic"),
}


def library_name(kind: str) -> str:
    """Of the file for a kind of processor, one of `KINDS`."""
    digest = sources_digest(*FLAGS, *KINDS[kind])
    return f"kernels-{kind}-{digest}.so"


def find() -> Path | None:
    """The library for this processor; None where this installation brings none.

    Nor where `SWIN_KERNELS=build` asks for one built here, or where it is damaged, which is logged.
    """
    kind = _kind()
    if os.environ.get("SWIN_KERNELS") == "build" or platform.system() != "Linux" or kind not in KINDS:
        return None
    library = FOLDER / library_name(kind)
    if not library.exists():
        return None
    if is_whole(library):
        return library
    _log.warning("%s is damaged: install swin-transformer-pytorch anew; kernels are built here instead", library)
    return None


def _kind() -> str:
    machine, vectors = platform.machine(), torch.backends.cpu.get_cpu_capability()
    if vectors == "AVX512" and torch.cpu._is_avx512_bf16_supported():
        vectors = "AVX512_BF16"
    return machine if machine == "aarch64" else f"{machine}-{vectors}"
