"""Where the CPU's own products are taken: on processors where they were measured to be the fastest, and nowhere else.

`MEASURED` is the whole choice; nothing is timed at run time. A row is added when `benchmarks/classification.py` has run
on a processor of its kind, once with `SWIN_PRODUCTS=own` and once with `SWIN_PRODUCTS=torch`.
"""

from __future__ import annotations

import functools
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from . import library


@dataclass(frozen=True)
class Processor:
    """What the choice depends on.

    Attributes:
        vectors: torch's word for the widest that it uses, such as "AVX2" or "AVX512".
        maker: as the processor names it, such as "AuthenticAMD"; "" where the system does not say.
        family: likewise, -1 where the system does not say.
    """

    vectors: str
    maker: str = ""
    family: int = -1

    def __str__(self) -> str:
        return f"{self.maker or 'a processor without a name'}, family {self.family}, with {self.vectors}"


@dataclass(frozen=True)
class _Row:
    """Processors with these vectors, of this maker and these families (None is any), and where that was measured."""

    vectors: str
    maker: str | None
    families: tuple[int, ...] | None
    dtype: torch.dtype
    where: str

    def holds(self, processor: Processor, dtype: torch.dtype) -> bool:
        return (
            (self.vectors, self.dtype) == (processor.vectors, dtype)
            and self.maker in (None, processor.maker)
            and (self.families is None or processor.family in self.families)
        )


MEASURED = (
    _Row("AVX2", None, None, torch.float32, "Intel and AMD, where torch was held to AVX2"),
    _Row("AVX512", "AuthenticAMD", (25, 26), torch.float32, "Zen 4 and Zen 5"),
    _Row("AVX512", "AuthenticAMD", (26,), torch.bfloat16, "Zen 5"),
)
_DTYPES = tuple({row.dtype: None for row in MEASURED})


def why_not(dtype: torch.dtype = torch.float32) -> str | None:
    """None where the package's own products of numbers of that type are taken; else why PyTorch's are, in one line.

    The environment variable `SWIN_PRODUCTS` chooses them for a whole process: "own", for measuring, or "torch".

    Raises:
        ValueError: it is neither.
    """
    forced = os.environ.get("SWIN_PRODUCTS") or None
    if forced not in (None, "own", "torch"):
        raise ValueError(f"SWIN_PRODUCTS={forced!r} is not possible: it is 'own' or 'torch', or not set")
    reason = _why_not(dtype, forced, torch.backends.cpu.get_cpu_capability())
    return None if reason is None else f"PyTorch's products are taken: {reason}"


@functools.cache  # as each layer asks at each call
def _why_not(dtype: torch.dtype, forced: str | None, vectors: str) -> str | None:
    found = Processor(vectors, *_maker_and_family())
    if dtype not in _DTYPES:
        return f"the package has none of {_name(dtype)}"
    if forced == "torch":
        return "SWIN_PRODUCTS says so"
    if forced is None and not any(row.holds(found, dtype) for row in MEASURED):
        return f"the package's own of {_name(dtype)} were not measured on {found}"
    if (reason := library.why_not()) is not None:
        return reason
    if forced is None and dtype == torch.bfloat16 and not library.multiplies_bfloat16():
        return "the kernels were built without instructions for bfloat16"
    return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def describe() -> str:
    """What is taken for each type of number, in one line."""
    taken = [_name(dtype) for dtype in _DTYPES if why_not(dtype) is None]
    left = [f"{_name(dtype)}: {why_not(dtype)}" for dtype in _DTYPES if why_not(dtype) is not None]
    return "; ".join([f"ready, for {' and '.join(taken)}", *left] if taken else left)


@functools.cache
def _maker_and_family() -> tuple[str, int]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # on Windows: "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD"
        text = re.sub(r".*Family (\d+).*, *(\w+)", r"vendor_id: \2\ncpu family: \1", platform.processor())
    maker = re.search(r"^vendor_id\s*: *(\w+)", text, re.MULTILINE)
    family = re.search(r"^cpu family\s*: *(\d+)", text, re.MULTILINE)
    return maker.group(1) if maker else "", int(family.group(1)) if family else -1
