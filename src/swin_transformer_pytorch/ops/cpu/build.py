"""Builds the CPU kernels with the machine's own compiler, once for each version, processor and compiler, where the
installation brings none (`prebuilt`).

What is built lies in a cache folder, from where later processes load it. Processes that start together build once: the
others wait for a lock that the system lets go of even if its holder is killed, and a finished library appears there
by a rename, whole or not at all. Its hash lies beside it: loading a damaged library would end the process with SIGBUS.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib import resources
from pathlib import Path

from filelock import FileLock

_log = logging.getLogger(__name__)

SOURCES = (
    "window_attention.cpp",
    "linear.cpp",
    "weight_gradient.cpp",
    "layer_norm.cpp",
    "block.cpp",
    "winograd.cpp",
    "regions.cpp",
    "resample.cpp",
    "affine.cpp",
)
HEADERS = (
    "attention16.h",
    "gelu.h",
    "geometry.h",
    "kernels.h",
    "products.h",
    "scratch.h",
    "softmax.h",
    "turns.h",
    "unfused.h",
    "vectors.h",
)
_COMPILERS = ("c++", "g++", "clang++")
_BUILD_SECONDS = 600
# A full disk or memory passes, and most other failures are mended by installing something.
_FAILURE_SECONDS = 24 * 3600
FLAGS = (
    "-std=c++20",
    "-O3",
    "-ffp-contract=fast",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
)


class KernelBuildError(RuntimeError):
    """The kernels cannot be built here. The message is the reason, in one line."""


def build(*, again: bool = False) -> Path:
    """The built library, which is built now if no earlier process did, or if it has been damaged since.

    A build that fails is tried again after a day, or at once with another compiler.

    Args:
        again: build it even if it is there, or if an earlier try failed.

    Raises:
        KernelBuildError: there is no compiler, it fails, or the cache folder cannot be written.
    """
    compiler, key = find_compiler(), _key()
    folder = cache_folder()
    library, failure = folder / f"{key}.so", folder / f"{key}.failed"
    try:
        if not again and is_whole(library):
            return library
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            if again:
                failure.unlink(missing_ok=True)
            elif is_whole(library):  # another process has built it while this one waited
                return library
            elif failure.exists() and 0 <= time.time() - failure.stat().st_mtime < _FAILURE_SECONDS:
                reason = failure.read_text(encoding="utf-8") or "the build failed"
                raise KernelBuildError(f"{reason} (within the last day; it is tried again after that)")
            _log.info("building the CPU kernels for this processor, once: %s", library)
            with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as scratch:
                made = Path(scratch) / library.name
                try:
                    compile_library([compiler, *FLAGS, "-march=native"], made)
                except KernelBuildError as error:
                    with suppress(OSError):  # of a full disk the date is enough
                        failure.write_text(str(error), encoding="utf-8")
                    raise
                sums = write_digest(made)
                os.replace(made, library)
                os.replace(sums, library.with_suffix(sums.suffix))
            failure.unlink(missing_ok=True)
    except OSError as error:
        raise KernelBuildError(f"the cache folder {folder} cannot be used: {error.strerror or error}") from error
    return library


def is_whole(library: Path) -> bool:
    """Whether a library is there, and as its sha256 beside it says."""
    try:
        return library.with_suffix(".sha256").read_text(encoding="utf-8", errors="replace") == _digest(library)
    except FileNotFoundError:
        return False


def write_digest(library: Path) -> Path:
    """Writes a library's sha256 beside it, for `is_whole`."""
    path = library.with_suffix(".sha256")
    path.write_text(_digest(library), encoding="utf-8")
    return path


def _digest(library: Path) -> str:
    with library.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where built libraries lie: `$SWIN_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("SWIN_CACHE")
    if chosen:
        return Path(chosen) / "kernels"
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "swin-transformer-pytorch" / "kernels"


def find_compiler() -> str:
    """The C++ compiler: `$CXX`, or the first of c++, g++ and clang++ on the path.

    Raises:
        KernelBuildError: there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    for name in chosen[:1] or _COMPILERS:
        if found := shutil.which(name):
            return found
    tried = chosen[0] if chosen else ", ".join(_COMPILERS)
    raise KernelBuildError(f"no C++ compiler was found ({tried}): install g++ or clang, or set CXX")


@functools.cache
def _key() -> str:
    """Changes with all that the library depends on: source, flags, compiler and processor."""
    compiler = find_compiler()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    return f"kernels-{sources_digest(*FLAGS, compiler, version, platform.machine(), _processor())}"


def sources_digest(*more: str) -> str:
    """A short name for the sources' text and what else a library is built of."""
    return hashlib.sha256("|".join([*_sources().values(), *more]).encode()).hexdigest()[:16]


def _sources() -> dict[str, str]:
    folder = resources.files(__package__)
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in (*SOURCES, *HEADERS)}


def _processor() -> str:
    """What `-march=native` may depend on: a folder may be shared by machines of several kinds."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    found = re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text.partition("\n\n")[0], re.MULTILINE)
    return "\n".join(found)


def compile_library(command: list[str], to: Path) -> None:
    """Compiles the kernels; the folder of `to` is also where the sources are put.

    Args:
        command: the compiler and its flags.

    Raises:
        KernelBuildError: that fails.
    """
    for name, text in _sources().items():
        (to.parent / name).write_text(text, encoding="utf-8")
    try:
        done = subprocess.run(
            [*command, "-o", str(to), *(str(to.parent / source) for source in SOURCES)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelBuildError(f"{command[0]} could not be run: {error}") from error
    if done.returncode != 0 or not to.exists():
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
        raise KernelBuildError(f"{command[0]} failed: {(lines or ['no message'])[0].strip()[:300]}")
