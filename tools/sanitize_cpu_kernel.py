"""Runs the CPU kernels under sanitizers, or for another processor, and compares their answers with exact ones.

    python tools/sanitize_cpu_kernel.py                       # AddressSanitizer and UndefinedBehaviorSanitizer
    python tools/sanitize_cpu_kernel.py --sanitize thread     # ThreadSanitizer
    python tools/sanitize_cpu_kernel.py --sanitize none --flags "-march=x86-64"     # an old processor: SSE2
    python tools/sanitize_cpu_kernel.py --flags "-D__AVX512F__ -DSWIN_PLAIN_VECTORS -Wno-psabi"  # 16 floats
    python tools/sanitize_cpu_kernel.py --sanitize none --compiler aarch64-linux-gnu-g++ --flags=-static \\
        --emulator qemu-aarch64-static                        # NEON
    python tools/sanitize_cpu_kernel.py --sanitize none --emulator "valgrind --error-exitcode=1 -q"

The kernels are compiled into small programs without PyTorch, and handed three plain threads (sanitize_threads.h):
window attention into sanitize_cpu_kernel.cpp; products, their gradients and GELU into sanitize_linear.cpp, norms and
whole blocks into sanitize_blocks.cpp, 3x3 convolutions, features of regions and suppression into sanitize_heads.cpp,
images into sanitize_resample.cpp, which compare them themselves. Attention's cases are random: sizes, windows from 1x1
to 24x24, shifts, heads, float32 and bfloat16, padding, V1 and V2; result and every gradient are compared with the
reference in float64. The exit code is 0 if nothing was found. Needs a C++20 compiler.
"""

from __future__ import annotations

import argparse
import random
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from swin_transformer_pytorch.ops import force_implementation, window_attention

TOOLS = Path(__file__).parent
KERNEL = TOOLS.parent / "src" / "swin_transformer_pytorch" / "ops" / "cpu"
MOST_SCORES = 2**21  # of a case, so that none takes long


@dataclass(frozen=True, kw_only=True)
class Case:
    """Arguments of the op, and the gradient of its result.

    Attributes:
        qkv, bias, pad_token, logit_scale, window_size, shift_size: see `window_attention`; float32, or bfloat16 for
            the map and its padding.
        grad_out: (B, H, W, C), as the map.
    """

    qkv: Tensor
    bias: Tensor
    pad_token: Tensor | None
    logit_scale: Tensor | None
    window_size: tuple[int, int]
    shift_size: tuple[int, int]
    grad_out: Tensor

    def sizes(self) -> list[int]:
        """What the kernel's functions take, and whether the map is bfloat16."""
        batch, height, width, channels = self.qkv.shape
        heads = len(self.bias)
        head_dim = channels // (3 * heads)
        is_bfloat16 = int(self.qkv.dtype == torch.bfloat16)
        return [batch, height, width, heads, head_dim, *self.window_size, *self.shift_size, is_bfloat16]

    def tensors(self) -> dict[str, Tensor]:
        """Those that have a gradient."""
        named = {name: getattr(self, name) for name in ("qkv", "bias", "pad_token", "logit_scale")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def __str__(self) -> str:
        given = [name for name in ("pad_token", "logit_scale") if getattr(self, name) is not None]
        return f"sizes {self.sizes()} with {given or 'nothing'} besides"


def draw(chance: random.Random) -> Case:
    """A random case."""
    while True:
        most = chance.choice((3, 8, 24))
        window = (chance.randint(1, most), chance.randint(1, most))
        batch, height, width = chance.randint(1, 3), chance.randint(1, 2 * most + 2), chance.randint(1, 2 * most + 2)
        heads, head_dim = chance.randint(1, 4), 8 * chance.randint(1, 8)
        windows = batch * -(-height // window[0]) * -(-width // window[1])
        if windows * heads * (window[0] * window[1]) ** 2 <= MOST_SCORES:
            break
    shift = (chance.randrange(window[0]), chance.randrange(window[1]))
    dtype = chance.choice((torch.float32, torch.bfloat16))
    channels = heads * head_dim
    qkv = torch.randn(batch, height, width, 3 * channels)
    return Case(
        qkv=qkv.to(dtype),
        bias=torch.randn(heads, *[window[0] * window[1]] * 2),
        pad_token=torch.randn(3 * channels).to(dtype) if chance.random() < 0.5 else None,
        logit_scale=5 * torch.randn(heads).exp() if chance.random() < 0.5 else None,
        window_size=window,
        shift_size=shift,
        grad_out=torch.randn(batch, height, width, channels).to(dtype),
    )


def write(case: Case, to: BinaryIO) -> None:
    """Appends a case to the file that the program reads."""
    to.write(np.array(case.sizes(), dtype=np.int64).tobytes())
    for tensor in (case.qkv, case.bias, case.pad_token, case.logit_scale, case.grad_out):
        data = b"" if tensor is None else tensor.view(torch.uint8).numpy().tobytes()
        to.write(np.int64(len(data)).tobytes() + data)


def read(shape: torch.Size, dtype: torch.dtype, answers: BinaryIO) -> Tensor:
    """The next array that the program wrote."""
    data = bytearray(answers.read(shape.numel() * dtype.itemsize))
    return torch.frombuffer(data, dtype=dtype).reshape(shape)


def differences(case: Case, answers: BinaryIO) -> list[str]:
    """Reads the answers of a case, and says which differ from the reference by more than rounding explains."""
    found = {"out": read(case.grad_out.shape, case.qkv.dtype, answers)}
    for name, tensor in case.tensors().items():
        found[name] = read(tensor.shape, case.qkv.dtype if name == "qkv" else torch.float32, answers)

    leaves = {name: tensor.double().requires_grad_() for name, tensor in case.tensors().items()}
    with force_implementation("reference"):
        out = window_attention(**leaves, window_size=case.window_size, shift_size=case.shift_size)
    grads = torch.autograd.grad(out, list(leaves.values()), case.grad_out.double(), allow_unused=True)
    expected = {"out": out.detach()}
    for name, grad in zip(leaves, grads, strict=True):
        expected[name] = torch.zeros_like(leaves[name]) if grad is None else grad

    lines = []
    for name, right in expected.items():
        rounded = found[name].dtype == torch.bfloat16
        # The logit scale's gradient is a sum over all pairs of tokens, in which much cancels. Of maps in bfloat16 the
        # backward pass computes weights anew in float32: they differ from the forward pass's by its rounding.
        loose = name == "logit_scale" or case.qkv.dtype == torch.bfloat16
        tolerance = (2**-7 if rounded else 2e-4 if loose else 3e-5) * (1 + right.abs().max().item())
        error = (found[name].double() - right).abs().max().item()
        if not error <= tolerance:
            lines.append(f"{name} is off by {error:.2e}: {case}")
    return lines


def compilation(arguments: argparse.Namespace, source: str, program: Path) -> list[str]:
    """The command that compiles a program, for this machine's processor unless another is asked for."""
    command = [arguments.compiler, "-std=c++20", "-O2", "-g", "-pthread", "-ffp-contract=fast", "-Wall", "-Wextra"]
    command += ["-Werror", f"-I{KERNEL}"]
    if arguments.compiler.endswith("g++"):  # GCC 12 finds them in its own header for AVX-512
        command += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    if arguments.compiler in ("g++", "clang++") and "-march" not in arguments.flags:
        command.append("-march=native")
    if arguments.sanitize != "none":
        command += [f"-fsanitize={arguments.sanitize}", "-fno-sanitize-recover=all"]
    return [*command, *shlex.split(arguments.flags), str(TOOLS / source), "-o", str(program)]


def main(arguments: argparse.Namespace) -> int:
    chance = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)
    cases = [draw(chance) for _ in range(arguments.cases)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with (folder / "cases").open("wb") as file:
            for case in cases:
                write(case, file)
        answers = folder / "answers"
        number, seed = str(arguments.cases), str(arguments.seed)
        runs = {
            "sanitize_cpu_kernel.cpp": [str(folder / "cases"), str(answers)],
            "sanitize_linear.cpp": [number, seed],
            "sanitize_blocks.cpp": [number, seed],
            "sanitize_heads.cpp": [number, seed],
            "sanitize_resample.cpp": [number, seed],
        }
        for source, inputs in runs.items():
            program = folder / Path(source).stem
            command = compilation(arguments, source, program)
            print(shlex.join(command), flush=True)
            subprocess.run(command, check=True)
            done = subprocess.run([*shlex.split(arguments.emulator), str(program), *inputs], check=False)
            if done.returncode != 0:
                print(f"{program.name} failed with exit code {done.returncode}", file=sys.stderr)
                return 1
        with answers.open("rb") as file:
            lines = [line for case in cases for line in differences(case, file)]
    print("\n".join(lines) if lines else f"{len(cases)} cases of each, no finding")
    return 1 if lines else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sanitize", default="address,undefined", help="what -fsanitize takes, or none")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--flags", default="", help="more flags of the compiler")
    parser.add_argument("--emulator", default="", help="a command before the program's")
    sys.exit(main(parser.parse_args()))
