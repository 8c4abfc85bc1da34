"""Builds and runs examples/cpp and examples/node, and compares their answers with `Predictor`'s.

    python tools/check_native.py          both, several minutes: AOTInductor and g++ take most of them
    python tools/check_native.py node     one of them

The shipped classifier, exported with bytes as its input, classifies the first test image of each of Fashion-MNIST's ten
classes. The examples run with an empty environment, so no Python is on their PATH. C++ needs g++, Node needs npm, which
gets onnxruntime-node into a scratch folder. It fails if an answer is not `Predictor`'s. The table
is in docs/guide/export.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.export import export_aoti

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TOLERANCE = 1e-5
"""Largest difference of a probability."""


def output_of(*command: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd).stdout.strip()


def build_cpp(folder: Path) -> tuple[str, list[str | Path]]:
    """What was used, and the command that classifies."""
    package = export_aoti(swin.load_model("fashion"), folder / "fashion.pt2", byte_input=True)
    classes = folder / "classes.txt"
    names = json.loads(package.with_suffix(".json").read_text(encoding="utf-8"))["classes"]
    classes.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    libraries, include = Path(torch.__path__[0], "lib"), Path(torch.__path__[0], "include")
    program = folder / "classify"
    output_of(
        *("g++", "-std=c++20", "-O2", "-Wall", "-Werror", EXAMPLES / "cpp" / "main.cpp", "-o", program),
        *("-isystem", include, "-isystem", include / "torch" / "csrc" / "api" / "include"),
        *(f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-ltorch", "-ltorch_cpu", "-lc10"),
    )
    used = f"C++: g++ {output_of('g++', '-dumpfullversion')}, libtorch of torch {torch.__version__}"
    return used, [program, package, classes]


def build_node(folder: Path) -> tuple[str, list[str | Path]]:
    """What was used, and the command that classifies."""
    model = swin.export_onnx(swin.load_model("fashion"), folder / "fashion.onnx", byte_input=True)
    project = Path(shutil.copytree(EXAMPLES / "node", folder / "node"))
    # Its script gets what only GPUs need.
    output_of("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", cwd=project)
    installed = json.loads((project / "node_modules/onnxruntime-node/package.json").read_text(encoding="utf-8"))
    node = shutil.which("node")
    assert node is not None, "npm ran with it"
    used = f"Node {output_of(node, '--version')}, onnxruntime-node {installed['version']}"
    return used, [node, project / "classify.mjs", model]


EXAMPLE: dict[str, Callable[[Path], tuple[str, list[str | Path]]]] = {"cpp": build_cpp, "node": build_node}


def check(name: str, folder: Path) -> str:
    """A line of the table."""
    start = time.perf_counter()
    used, command = EXAMPLE[name](folder)
    minutes = (time.perf_counter() - start) / 60
    predictor, images = swin.Predictor("fashion", device="cpu"), FashionSample("test")
    first = {images[index][1]: index for index in reversed(range(len(images)))}
    worst = 0.0
    for index in first.values():
        path = folder / f"{index}.pgm"
        images[index][0].save(path)
        answer = subprocess.run([*command, path], check=True, capture_output=True, text=True, env={}).stdout
        rows = [line.split("\t") for line in answer.splitlines()]
        expected = predictor(path)
        if [label for label, _ in rows] != list(expected.names):
            raise SystemExit(f"{used}: image {index} is {rows}, and Predictor says {expected}")
        worst = max(
            worst, *(abs(float(score) - wanted) for (_, score), wanted in zip(rows, expected.scores, strict=True))
        )
    if not worst <= TOLERANCE:
        raise SystemExit(f"{used}: a probability differs by {worst:.1e}")
    return f"| {used} | {len(first)} of {len(first)} images | {worst:.0e} | {minutes:.1f} min |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="EXAMPLE", help=f"any of {', '.join(EXAMPLE)}; all if none is named"
    )
    options = parser.parse_args()
    for name in options.names:
        if name not in EXAMPLE:
            parser.error(f"no example {name!r}; there are: {', '.join(EXAMPLE)}")
    print(f"torch {torch.__version__} on {platform.machine()}", flush=True)
    for name in options.names or EXAMPLE:
        with tempfile.TemporaryDirectory() as folder:
            print(check(name, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
