"""Compiles the GPU kernels of window attention ahead of time, for GPUs that are not there, and tells what they take.

    python tools/compile_triton.py benchmarks/results

writes a table of registers, spilt bytes and shared memory of each kernel for compute capability 8.0, 9.0 and 10.0, and
of how many programs of one a multiprocessor then holds at once. It needs Triton, which brings NVIDIA's assembler, and
no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from swin_transformer_pytorch.ops import operators
from swin_transformer_pytorch.ops.triton import kernel

_NUMBERS = ("height", "width", "shift_height", "shift_width", "heads", "windows", "parts")
_OF_THE_MAP = ("out", "grad_out", "qkv", "grad_qkv", "pad_token")  # of the map's type; the other tensors are float32
_TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}
_HEADS = 3

_COLUMNS = (
    "GPU",
    "map",
    "window",
    "kernel",
    "warps",
    "registers",
    "spilt bytes",
    "shared KB",
    "at once",
    "of 64 warps",
    "wide",
)

ONE_BLOCK = ("forward", "window_backward")
SEVERAL_BLOCKS = ("forward", "queries_backward", "keys_backward", "bias_backward")
CAPABILITIES = (80, 90, 100)
# Of a multiprocessor: 32-bit registers, threads, bytes of shared memory (each program takes 1 KB more of it).
_REGISTERS, _THREADS = 65536, 2048
_SHARED = {80: 164 * 1024, 90: 228 * 1024, 100: 228 * 1024}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kernel as a call compiles it.

    Attributes:
        capability: of the GPU, 90 for 9.0.
        padded: whether the map is no whole windows.
        warps: that run a program; None for as many as a call takes.
    """

    name: str
    capability: int
    dtype: torch.dtype
    window: tuple[int, int]
    head_dim: int = 32
    v2: bool = False
    padded: bool = False
    warps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a compiled kernel takes.

    Attributes:
        registers: of a thread.
        spilt: bytes a thread that registers did not hold.
        shared: bytes of shared memory of a program.
        warps: that run a program.
        wide: the share of its loads and stores of global memory that take 16 bytes a thread.
    """

    registers: int
    spilt: int
    shared: int
    warps: int
    wide: float

    def programs(self, capability: int) -> int:
        """How many a multiprocessor holds at once: registers are given by 256 for each warp."""
        a_warp = -(-self.registers * 32 // 256) * 256
        by_shared = _SHARED[capability] // (self.shared + 1024)
        return min(_REGISTERS // (a_warp * self.warps), _THREADS // (32 * self.warps), by_shared, 32)


def compiled(case: Case) -> Usage:
    """Compiles a kernel as a call on such a GPU would; Triton's cache folder is used."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from swin_transformer_pytorch.ops.triton import backward, forward

    function: Any = getattr(forward if case.name == "forward" else backward, case.name)
    window, tokens = case.window, case.window[0] * case.window[1]
    sides = [4 * side + (1 if case.padded else 0) for side in window]
    qkv = torch.empty(1, *sides, 3 * _HEADS * case.head_dim, dtype=case.dtype, device="meta")
    bias, pad_token = torch.empty(_HEADS, tokens, tokens, device="meta"), torch.empty(0, device="meta")
    shift = (window[0] // 2, window[1] // 2)
    inputs = operators.Inputs(qkv, bias, window, shift, pad_token, bias if case.v2 else None)
    constants = kernel._Work.of(inputs).constants
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
    options["num_warps"] = case.warps or options["num_warps"]
    constants["KEEP_LOG_SUMS"] = True
    signature, known, attributes = {}, {}, {}
    for index, name in enumerate(function.arg_names):
        if name in constants or (name == "logit_scale" and not case.v2):
            signature[name], known[(index,)] = "constexpr", constants.get(name)
        elif name in _NUMBERS:
            signature[name] = "i32"
        else:
            signature[name] = _TYPES[case.dtype] if name in _OF_THE_MAP else "*fp32"
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=function, signature=signature, constexprs=known, attrs=attributes)
    found = triton.compile(source, target=GPUTarget("cuda", case.capability, 32), options=options)
    dump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(found.asm["cubin"])
        usage = subprocess.run([dump, "-res-usage", binary], capture_output=True, text=True, check=True).stdout
    numbers = {what: int(count) for what, count in re.findall(r"(REG|STACK):(\d+)", usage)}
    moves = re.findall(r"(?:ld|st)\.global\S*|cp\.async\.c[ag]\S* \[[^\]]*\], \[[^\]]*\], \S+", found.asm["ptx"])
    wide = [move for move in moves if ".v4.b32" in move or ".v2.b64" in move or re.search(r"\b0x10\b|\b16\b", move)]
    return Usage(
        registers=numbers["REG"],
        spilt=numbers["STACK"],
        shared=found.metadata.shared,
        warps=options["num_warps"],
        wide=len(wide) / max(1, len(moves)),
    )


def cases() -> Iterator[Case]:
    """Those of the table: windows of published models, V1 and V2; on one GPU with other numbers of warps as well."""
    for capability in CAPABILITIES:
        for dtype in (torch.bfloat16, torch.float32):
            for window, names, v2 in (
                ((7, 7), ONE_BLOCK, False),
                ((8, 8), ONE_BLOCK, True),
                ((12, 12), SEVERAL_BLOCKS, False),
                ((16, 16), SEVERAL_BLOCKS, True),
            ):
                for name in names:
                    others = (None, 2, 8) if (capability, dtype) == (90, torch.bfloat16) else (None,)
                    for warps in others:
                        yield Case(
                            name=name,
                            capability=capability,
                            dtype=dtype,
                            window=window,
                            v2=v2,
                            padded=True,
                            warps=warps,
                        )


def table(found: list[tuple[Case, Usage]], triton_version: str) -> str:
    """As Markdown."""
    lines = [
        f"# The GPU kernels, compiled ahead of time, {datetime.date.today().isoformat()}",
        "",
        f"`tools/compile_triton.py`, Triton {triton_version}, torch {torch.__version__}; no GPU was at hand.",
        "Heads of 32 channels, padded and shifted maps, which is the most that a kernel has to do. Registers and spilt",
        "bytes are a thread's, shared memory a program's. At once: programs that a multiprocessor has room for, and",
        "their share of the 64 warps that it could have. Wide: of the loads and stores of global memory in the code,",
        "those of 16 bytes a thread.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case, usage in found:
        programs = usage.programs(case.capability)
        cells = [
            f"sm_{case.capability}",
            str(case.dtype).removeprefix("torch."),
            f"{case.window[0]} x {case.window[1]}{', V2' * case.v2}",
            f"`{case.name}`",
            f"{usage.warps}{', as is' * (case.warps is None)}",
            *(f"{number}" for number in (usage.registers, usage.spilt)),
            f"{usage.shared / 1024:.1f}",
            str(programs),
            f"{programs * usage.warps / 64:.0%}",
            f"{usage.wide:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    import triton

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the table goes")
    options = parser.parse_args()
    os.environ.pop("TRITON_INTERPRET", None)
    found = []
    for case in cases():
        found.append((case, compiled(case)))
        print(case, found[-1][1], flush=True)
    path = options.folder / f"{datetime.date.today().isoformat()}-triton-registers.md"
    path.write_text(table(found, triton.__version__))
    print(path)


if __name__ == "__main__":
    main()
