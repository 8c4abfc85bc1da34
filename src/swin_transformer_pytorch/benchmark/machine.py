"""What figures belong to: the processor and the versions."""

from __future__ import annotations

import torch

from ..doctor import installed_version, processor


def measured_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processor_name() -> str:
    """What the measurements ran on: the GPU, or the CPU with the instructions that PyTorch uses of it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{processor()} ({torch.backends.cpu.get_cpu_capability()})"


def library_versions(libraries: list[str]) -> dict[str, str]:
    """Of those that are installed, by their import names."""
    found = {library: installed_version(library) for library in libraries}
    return {library: version for library, version in found.items() if version is not None}
