"""Installs each kind of wheel into clean environments and uses it there; writes a table of what came of it.

    make wheel
    python tools/check_wheels.py --pythons python3.11 python3.13 --torches "torch==2.11.0 torchvision==0.26.0" \\
        "torch torchvision" --table benchmarks/results/wheels.md

For each Python and torch, one after the other, an environment is made and removed again (torch takes up to 6 GB). In
it, with and without a compiler on the path, with an empty cache each: the README's first Python block, `swin doctor`,
and the time of a Swin-T's forward pass on one core, with the kernels beside PyTorch's own attention, in turns. The exit
code is 0 if all ran, and kernels were active wherever they were built ahead or there is a compiler.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORIGINS = ("built ahead", "built here", "none")

TIMES = """
import json, time, torch
import swin_transformer_pytorch as swin
from swin_transformer_pytorch.ops import choose_implementation, force_implementation
model = swin.create_model("swin_tiny_patch4_window7_224").eval()
torch.set_num_threads(1)  # whose own time is told apart from that of whatever else runs here
image, found = torch.rand(1, 3, 224, 224), {}
names = {"chosen": choose_implementation("cpu", training=False), "plain": "sdpa"}
with torch.inference_mode():
    for turn in range(-1, 7):
        for key, name in names.items():
            with force_implementation(name):
                start = time.thread_time()
                model(image)
                if turn >= 0:
                    found.setdefault(key, []).append(time.thread_time() - start)
print(json.dumps({key: min(values) for key, values in found.items()}))
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one wheel in one environment.

    Attributes:
        readme: whether the README's first block ran to its end.
        kernels: what `swin doctor` says of the CPU's.
        chosen, plain: seconds of a forward pass on one core, the least of 7; None where it failed.
    """

    python: str
    torch: str
    wheel: str
    compiler: bool
    readme: bool
    kernels: str
    chosen: float | None
    plain: float | None

    def origin(self) -> str:
        """Where the kernels are from, one of `ORIGINS`."""
        return next((origin for origin in ORIGINS[:2] if origin in self.kernels), ORIGINS[2])

    def is_right(self) -> bool:
        """Whether all ran, with the kernels that this wheel promises there."""
        promised = ORIGINS[0] if self.wheel == "Linux" else ORIGINS[1] if self.compiler else ORIGINS[2]
        return self.readme and self.chosen is not None and self.origin() == promised

    def __str__(self) -> str:
        times = [f"{1000 * seconds:.0f}" if seconds else "failed" for seconds in (self.chosen, self.plain)]
        cells = [self.python, self.torch, self.wheel, "yes" if self.compiler else "no"]
        cells += ["ran" if self.readme else "failed", self.origin(), *times, "yes" if self.is_right() else "NO"]
        return f"| {' | '.join(cells)} |"


HEAD = """| Python | torch | wheel | compiler | README | kernels | Swin-T, ms | PyTorch's attention, ms | as promised |
| --- | --- | --- | --- | --- | --- | ---: | ---: | --- |"""


def readme_block() -> str:
    """The first Python block of the README."""
    found = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    return found[1]


def use(binaries: Path, folder: Path, *, compiler: bool) -> tuple[bool, str, dict[str, float]]:
    """Whether the README's lines ran, what doctor says, and the times; in a folder with a photograph and no cache."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "CXX", "SWIN_KERNELS")}
    environment |= {"SWIN_CACHE": str(folder / "cache")}
    environment["PATH"] = f"{binaries}:{os.environ['PATH']}" if compiler else str(binaries)

    def output(*command: str) -> str | None:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{command[:2]}: {done.stderr[-1000:]}", file=sys.stderr)
        return done.stdout if done.returncode == 0 else None

    python = str(binaries / "python")
    photograph = "from PIL import Image; Image.linear_gradient('L').convert('RGB').save('photo.jpg')"
    ran = output(python, "-c", f"{photograph}\n{readme_block()}") is not None
    doctor = json.loads(output(str(binaries / "swin"), "doctor", "--json") or "{}")
    times = json.loads(output(python, "-c", TIMES) or "{}")
    return ran, doctor.get("kernels", {}).get("cpu", "none: doctor failed"), times


def check(python: str, torch: str, wheels: dict[str, Path]) -> list[Row]:
    """The rows of one environment, which is made and removed."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        interpreter = f"{scratch}/venv/bin/python"
        subprocess.run([python, "-m", "venv", f"{scratch}/venv"], check=True)
        install = [interpreter, "-m", "pip", "install", "--quiet", "--no-cache-dir"]
        subprocess.run([*install, *torch.split()], check=True)
        asked = "import platform, torch; print(platform.python_version(), torch.__version__)"
        found = subprocess.run([interpreter, "-c", asked], capture_output=True, text=True, check=True)
        versions = found.stdout.split()
        for name, wheel in wheels.items():
            subprocess.run([*install, str(wheel)], check=True)
            for compiler in (False, True):
                folder = Path(scratch) / f"{name}-{compiler}"
                folder.mkdir()
                ran, kernels, times = use(Path(interpreter).parent, folder, compiler=compiler)
                row = Row(
                    python=versions[0],
                    torch=versions[1],
                    wheel=name,
                    compiler=compiler,
                    readme=ran,
                    kernels=kernels,
                    chosen=times.get("chosen"),
                    plain=times.get("plain"),
                )
                print(row, kernels, flush=True)
                rows.append(row)
            subprocess.run([interpreter, "-m", "pip", "uninstall", "-qy", "swin-transformer-pytorch"], check=True)
    return rows


def table(rows: list[Row]) -> str:
    """All rows in Markdown, dated."""
    system = f"{platform.system()} on {platform.machine()}, {' '.join(platform.libc_ver())}"
    about = f"{datetime.date.today()}, {system}. Times: one core, the least of 7 forward passes of one image."
    return "\n".join([f"# Wheels in clean environments\n\n{about}\n", HEAD, *map(str, rows)]) + "\n"


def main(arguments: argparse.Namespace) -> int:
    machine = platform.machine()
    (plain,), (linux,) = (list(arguments.folder.glob(f"*-{tag}.whl")) for tag in ("any", f"*{machine}"))
    rows: list[Row] = []
    for python, torch in itertools.product(arguments.pythons, arguments.torches):
        rows += check(python, torch, {"any": plain, "Linux": linux})
        if arguments.table:  # after each environment, as one takes minutes
            arguments.table.write_text(table(rows), encoding="utf-8")
    return 0 if all(row.is_right() for row in rows) else 1


if __name__ == "__main__":
    if shutil.which("c++") is None:
        sys.exit("a compiler is needed for the half of the table that has one: install g++")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "dist")
    parser.add_argument("--pythons", nargs="+", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--torches", nargs="+", default=["torch torchvision"], metavar="REQUIREMENTS")
    parser.add_argument("--table", type=Path, metavar="FILE")
    sys.exit(main(parser.parse_args()))
