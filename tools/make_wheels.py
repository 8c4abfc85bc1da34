"""Makes what a release is: the source distribution, a wheel for any machine, and wheels for Linux with kernels in them.

    python tools/make_wheels.py            # into dist/

The wheel for any machine and the source distribution build their CPU kernels on first use. Those for Linux on x86-64
and aarch64 bring them, compiled by zig (PyPI's `ziglang`), which has every glibc at hand: kernels are linked to that of
2014, as `manylinux_2_17` promises, and need no other library.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from swin_transformer_pytorch.ops.cpu import build, prebuilt

ROOT = Path(__file__).parents[1]
NEWEST_GLIBC = (2, 17)
ZIG = (sys.executable, "-m", "ziglang", "c++")


def compile_kernels(kind: str, folder: Path) -> Path:
    """Builds the library for a kind of processor, with its sha256, into a folder.

    Raises:
        KernelBuildError: zig fails.
        ValueError: the library needs more of the system than it may.
    """
    target, processor = prebuilt.KINDS[kind]
    library = folder / prebuilt.library_name(kind)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / library.name
        build.compile_library([*ZIG, *build.FLAGS, "-s", "-target", target, f"-mcpu={processor}"], made)
        check_needs(made)
        shutil.copyfile(made, library)
    build.write_digest(library)
    return library


def check_needs(library: Path) -> None:
    """Raises ValueError if a library needs others than glibc's, or a glibc that is newer than the wheel's name says."""
    content = library.read_bytes()
    libraries = set(re.findall(rb"(?<=\0)(?:lib|ld-)[\w+-]+\.so[.\w]*(?=\0)", content)) - {library.name.encode()}
    if more := libraries - {b"libm.so.6", b"libc.so.6", b"libpthread.so.0"}:
        raise ValueError(f"{library.name} needs {more}")
    versions = {tuple(map(int, found.split(b"."))) for found in re.findall(rb"\0GLIBC_([\d.]+)(?=\0)", content)}
    if not versions or max(versions) > NEWEST_GLIBC:
        raise ValueError(f"{library.name} needs glibc {versions}, newer than {NEWEST_GLIBC}")


class LinuxWheelBuilder(WheelBuilder):
    """Builds the wheel for one machine, with its kernels."""

    machine: str
    kernels: Path

    def get_default_build_data(self) -> dict[str, Any]:
        to = prebuilt.FOLDER.relative_to(ROOT / "src").as_posix()
        return {
            **super().get_default_build_data(),
            "pure_python": False,
            "tag": f"py3-none-manylinux_2_17_{self.machine}.manylinux2014_{self.machine}",
            "force_include": {str(file): f"{to}/{file.name}" for file in self.kernels.iterdir()},
        }


def make(folder: Path) -> None:
    """Writes all of them into a folder, from which those of an earlier run are removed."""
    for earlier in folder.glob("swin_transformer_pytorch-*"):
        earlier.unlink()
    for machine in ("x86_64", "aarch64"):
        with tempfile.TemporaryDirectory() as scratch:
            builder = LinuxWheelBuilder(str(ROOT))
            builder.machine, builder.kernels = machine, Path(scratch)
            for kind in prebuilt.KINDS:
                if kind.startswith(machine):
                    library = compile_kernels(kind, builder.kernels)
                    print(f"{library.name}: {library.stat().st_size / 1000:.0f} kB", flush=True)
            list(builder.build(directory=str(folder), versions=["standard"]))
    for plain in (WheelBuilder, SdistBuilder):
        list(plain(str(ROOT)).build(directory=str(folder), versions=["standard"]))
    for file in sorted(folder.iterdir()):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "dist")
    make(parser.parse_args().folder)
