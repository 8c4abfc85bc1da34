"""What figures belong to: the processor and the versions."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from .libraries import OURS

_DISTRIBUTIONS = {OURS: "swin-transformer-pytorch"}


def measured_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processor_name() -> str:
    """What the measurements ran on: the GPU, or the CPU with the instructions that PyTorch uses of it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            names = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    except OSError:
        names = []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def library_versions(libraries: list[str]) -> dict[str, str]:
    """Of those that are installed, by their import names."""
    versions = {}
    for library in libraries:
        try:
            versions[library] = metadata.version(_DISTRIBUTIONS.get(library, library))
        except metadata.PackageNotFoundError:
            continue
    return versions
