"""What this installation can do, and why not more: versions, processor, kernels, extras, caches."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from . import __version__
from .ops import available_implementations, choose_implementation, describe_kernels
from .ops.cpu import resample
from .threads import describe_waiting

# Optional packages, each with the extra of this package that brings it, and its purpose.
EXTRAS = {
    "lightning": ("train", "`swin train` and the demo"),
    "matplotlib": ("train", "curves, grids, confusion matrices"),
    "fastapi": ("web", "`swin web`"),
    "uvicorn": ("web", "the same"),
    "simplejpeg": ("jpeg", "JPEGs read in less time"),
    "timm": ("dev", "comparisons in `swin benchmark` and the tests"),
    "transformers": ("dev", "the same"),
}

_CORE = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "safetensors",
    "huggingface-hub",
    "jsonargparse",
    "docstring-parser",
    "pyyaml",
    "rich",
    "jaxtyping",
)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What `examine` found, in plain types.

    Attributes:
        system: of the machine and Python.
        packages: the core's packages and their versions; None where one is missing.
        extras: optional packages and their versions; None where one is missing.
        attention: implementations of window attention, each with what it is used for here.
        kernels: those of this package, each with where it is or why there is none.
        caches: folders where downloads go, each with its size in bytes.
    """

    system: dict[str, str]
    packages: dict[str, str | None]
    extras: dict[str, str | None]
    attention: dict[str, list[str]]
    kernels: dict[str, str]
    caches: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ready for JSON."""
        return dataclasses.asdict(self)

    def sections(self) -> dict[str, list[tuple[str, str]]]:
        """The same for a reader: rows of (name, value) under headings."""
        return {
            "system": list(self.system.items()),
            "packages": [(name, found or "missing: pip install " + name) for name, found in self.packages.items()],
            "extras": [(name, _describe_extra(name, found)) for name, found in self.extras.items()],
            "attention": [
                (name, f"for {', '.join(uses)}" if uses else "not used") for name, uses in self.attention.items()
            ],
            "kernels": list(self.kernels.items()),
            "caches": [(folder, f"{size / 1e6:.1f} MB") for folder, size in self.caches.items()],
        }


def examine() -> Diagnosis:
    """Looks at this machine and installation. Imports torch, and nothing of the extras; builds the CPU kernels if no
    earlier process did."""
    return Diagnosis(
        system=_system(),
        packages={
            "swin-transformer-pytorch": __version__,
            **{name: installed_version(name) for name in _CORE},
            "torch": torch.__version__,  # with the build that it is, which its metadata leave out
        },
        extras={name: installed_version(name) if _importable(name) else None for name in EXTRAS},
        attention=_attention(),
        kernels={**describe_kernels(), "images": _describe_images()},
        caches={str(folder): _size(folder) for folder in _cache_folders()},
    )


def _describe_images() -> str:
    reason = resample.why_not()
    return f"by Pillow and torchvision: {reason}" if reason else "resized and normalised as Pillow does it"


def _system() -> dict[str, str]:
    rows = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "waiting": describe_waiting(),
    }
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            memory, capability = f"{device.total_memory / 2**30:.0f} GiB", f"{device.major}.{device.minor}"
            rows[f"cuda:{index}"] = f"{device.name}, {memory}, compute capability {capability}"
        rows["cuda"] = f"version {torch.version.cuda}"
    elif torch.version.cuda is None:
        rows["cuda"] = "none: this torch was built without it"
    else:
        rows["cuda"] = f"none: torch has version {torch.version.cuda}, but found no usable device or driver"
    rows["mps"] = "available" if torch.backends.mps.is_available() else "none"
    return rows


def _attention() -> dict[str, list[str]]:
    uses: dict[str, list[str]] = {name: [] for name in available_implementations()}
    for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
        for work, training in (("inference", False), ("training", True)):
            uses[choose_implementation(device, training=training)].append(f"{work} on {device}")
    return uses


def processor() -> str:
    """The CPU's model, where Linux tells it; platform's word for it is only the architecture."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def _describe_extra(name: str, found: str | None) -> str:
    extra, purpose = EXTRAS[name]
    if found:
        return f"{found} ({purpose})"
    return f"missing, for {purpose}: pip install 'swin-transformer-pytorch[{extra}]'"


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def installed_version(distribution: str) -> str | None:
    """The version of a distribution; None where it is missing."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cache_folders() -> list[Path]:
    from huggingface_hub.constants import HF_HUB_CACHE

    return [Path(torch.hub.get_dir()) / "checkpoints", Path(HF_HUB_CACHE)]


def _size(folder: Path) -> int:
    """Bytes of the files below. Links are left out: the hub's cache points many of them at one file."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
