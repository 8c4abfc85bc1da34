"""Window attention alone, and whole Swins, on a GPU: ours beside PyTorch's and timm's, within a time.

    python benchmarks/gpu.py --budget 540 --out gpu-results

needs a CUDA device. Rows come in the order of what is wanted most: whether the kernel is right, then whole models, then
the op alone. Each is on the disk as soon as it is known, and what a process could not finish the same command goes on
with: a run that is cut off keeps what it has. A row that ends its process (a fault of the GPU's memory) or takes far
longer than it should is noted, and the next one begins in a new process. A short table comes last.

Weights and inputs are random. float32 is PyTorch's own, without TF32. `--tiny --device cpu` tries all of it on a CPU
(with TRITON_INTERPRET=1 the kernel too), where times mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from gpu_attention import ATTENTIONS, Attention, check, measure_attention, sweep
from gpu_measure import Figure, Tell, copy_rate
from gpu_models import (
    COMPILED,
    EAGER,
    GRAPH,
    OPTIMIZED,
    OPTIMIZED_COMPILED,
    OPTIMIZED_GRAPH,
    REDUCED,
    SDPA,
    TIMM,
    TIMM_COMPILED,
    TIMM_GRAPH,
    Way,
    Whole,
    measure_model,
    profile,
)
from gpu_results import BEGUN, Results, markdown, summary
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.ops.triton import kernel

CASES = Path(__file__).parents[1] / "tests" / "ops" / "triton_kernel_cases.py"
TINY_T = Whole(name="swin_tiny_patch4_window7_224", image_size=(224, 224))
TINY_V2 = Whole(name="swinv2_tiny_patch4_window16_256", image_size=(256, 256))
DETECTION = Whole(name="swin_tiny_patch4_window7_224", image_size=(800, 1344), features=True)
BASE = Whole(name="swin_base_patch4_window7_224", image_size=(224, 224))
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32

_LIMIT = 4  # times what a row should take, and a minute, after which it is ended
_LAST_SECONDS = 8  # of the budget, for the tables


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        device: on which.
        rounds: of all ways.
        tiny: whether maps, models and batches are shrunken.
        compiler: whether what is compiled is measured.
    """

    device: torch.device
    rounds: int
    tiny: bool
    compiler: bool

    def batch(self, size: int) -> int:
        return 1 if self.tiny else size

    def of(self, whole: Whole) -> Whole:
        return whole.shrunken() if self.tiny else whole

    def case(self, case: Attention) -> Attention:
        return case.shrunken() if self.tiny else case

    def ways(self, *ways: Way) -> tuple[Way, ...]:
        return tuple(way for way in ways if self.compiler or way.compile is None)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is measured together.

    Attributes:
        name: which.
        seconds: about what it takes on a GPU, compiling included: it is not begun with less.
        run: measures, and tells what is known meanwhile.
    """

    name: str
    seconds: float
    run: Callable[[Tell], list[Figure]]


def plan(scale: Scale) -> list[Row]:
    """All rows, in the order of what is wanted most."""
    device, rounds = scale.device, scale.rounds
    rows = [
        Row(name=f"right, {_name(dtype)}", seconds=25, run=partial(check, dtype, device, shrink=scale.tiny))
        for dtype in (BF16, FP32, FP16)
        if not (dtype == BF16 and kernel.INTERPRETED)  # the interpreter multiplies it as whole numbers
    ]

    def model(
        name: str, seconds: float, whole: Whole, batch: int, dtype: torch.dtype, training: bool, *ways: Way
    ) -> None:
        chosen = scale.ways(*ways)
        run = partial(
            measure_model, scale.of(whole), scale.batch(batch), dtype, device, rounds, chosen, training=training
        )
        mode = "training" if training else "inference"
        if chosen:
            rows.append(Row(name=f"{name}: {whole.subject}, {mode}", seconds=seconds, run=run))

    # What needs no compiler first: should there be little time, it is there.
    model("whole, bfloat16, eager", 12, TINY_T, 64, BF16, False, EAGER, SDPA, OPTIMIZED, TIMM)
    model("whole, bfloat16, eager", 12, TINY_T, 64, BF16, True, EAGER, SDPA, TIMM)
    model("whole, bfloat16, compiled", 80, TINY_T, 64, BF16, False, COMPILED, TIMM_COMPILED, OPTIMIZED_COMPILED)
    model("whole, bfloat16, compiled", 100, TINY_T, 64, BF16, True, COMPILED, TIMM_COMPILED)
    rows += [_op_row(scale, case, BF16) for case in ATTENTIONS]
    model("V2, bfloat16", 15, TINY_V2, 64, BF16, False, EAGER, SDPA, OPTIMIZED, TIMM)
    model("V2, bfloat16", 15, TINY_V2, 64, BF16, True, EAGER, SDPA, TIMM)
    model("detection, bfloat16", 12, DETECTION, 2, BF16, False, EAGER, SDPA, OPTIMIZED, TIMM)
    model("detection, bfloat16", 12, DETECTION, 2, BF16, True, EAGER, SDPA, TIMM)
    model("latency, bfloat16", 15, TINY_T, 1, BF16, False, EAGER, GRAPH, OPTIMIZED, OPTIMIZED_GRAPH, TIMM, TIMM_GRAPH)
    rows.append(
        Row(
            name="profile",
            seconds=15,
            run=partial(_profiles, scale.of(TINY_T), scale.batch(64), device, scale.ways(EAGER, OPTIMIZED, TIMM)),
        )
    )
    model("latency, bfloat16, compiled", 60, TINY_T, 1, BF16, False, REDUCED)
    model("large, bfloat16", 15, BASE, 64, BF16, False, EAGER, OPTIMIZED, TIMM)
    model("large, bfloat16", 20, BASE, 64, BF16, True, EAGER, TIMM)
    for dtype in (FP16, FP32):
        model(f"whole, {_name(dtype)}", 15, TINY_T, 64, dtype, False, EAGER, SDPA, OPTIMIZED, TIMM)
        model(f"whole, {_name(dtype)}", 15, TINY_T, 64, dtype, True, EAGER, SDPA, TIMM)
        rows += [_op_row(scale, case, dtype) for case in ATTENTIONS[:1]]
    model("V2, bfloat16, compiled", 80, TINY_V2, 64, BF16, False, COMPILED, TIMM_COMPILED)
    model("V2, bfloat16, compiled", 110, TINY_V2, 64, BF16, True, COMPILED, TIMM_COMPILED)
    for case in ATTENTIONS[:2]:
        run = partial(_sweep, scale.case(case), scale.batch(64), device, rounds, (4,) if scale.tiny else (1, 2, 4, 8))
        rows.append(Row(name=f"other tiles: {case.name}", seconds=90, run=run))
    rows.append(Row(name="tests", seconds=120, run=partial(_tests, interpreted=device.type == "cpu")))
    return rows


def _op_row(scale: Scale, case: Attention, dtype: torch.dtype) -> Row:
    batch_size = scale.batch(8 if case.map_size[1] > 100 else 64)
    flex = case.flex and scale.compiler and dtype == BF16
    ways = ["triton", "sdpa", *(["flex_attention"] if flex else [])]

    def run(tell: Tell) -> list[Figure]:
        rate = copy_rate(scale.device, 4 if scale.tiny else 2048)
        small = scale.case(case)
        return measure_attention(small, batch_size, dtype, scale.device, scale.rounds, ways, tell, copy_rate=rate)

    return Row(name=f"op, {_name(dtype)}: {case.name}", seconds=50 if flex else 12, run=run)


def _profiles(whole: Whole, batch_size: int, device: torch.device, ways: tuple[Way, ...], tell: Tell) -> list[Figure]:
    inference = profile(whole, batch_size, device, ways, tell, training=False)
    training = tuple(way for way in ways if not way.optimized)
    return inference + profile(
        whole, batch_size, device, training, lambda found: tell(inference + found), training=True
    )


def _sweep(
    case: Attention, batch_size: int, device: torch.device, rounds: int, warps: tuple[int, ...], tell: Tell
) -> list[Figure]:
    return sweep(case, batch_size, device, rounds, tell, warps)


def _tests(tell: Tell, *, interpreted: bool) -> list[Figure]:
    """The kernel's own tests, without the package's settings for tests, which ask for more than is needed here."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        str(CASES),
        "-q",
        "--noconftest",
        "-c",
        os.devnull,
        "-p",
        "no:cacheprovider",
    ]
    words += ["-W", "ignore", *(["-k", "not_take or chosen or empty"] if interpreted else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1].strip("= ")
    failed = re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.MULTILINE)
    failure = None if done.returncode == 0 else "; ".join([last, *failed, done.stderr[-200:]])[:800]
    return [Figure(subject=CASES.name, mode="tests", dtype="", batch_size=1, way="triton", note=last, failure=failure)]


def work(rows: list[Row], results: Results, until: float, *, again: bool) -> None:
    """Measures what is not there, one row after the other; what the time does not suffice for is passed over."""
    for row in rows:
        if results.is_done(row.name, again=again) or time.time() + row.seconds > until:
            continue
        begun = time.time()
        (results.folder / BEGUN).write_text(json.dumps({"row": row.name, "at": begun}))
        print(f"{row.name} ...", flush=True)
        figures = row.run(partial(results.put, row.name, partial=True))
        results.put(row.name, figures, seconds=time.time() - begun)
        torch.compiler.reset()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a fault of the row's is met here, and not in the next one
            torch.cuda.empty_cache()
    (results.folder / BEGUN).unlink(missing_ok=True)


def oversee(rows: list[Row], results: Results, until: float, words: list[str]) -> None:
    """Starts processes that measure, one after the other, and ends one whose row takes far too long."""
    limits = {row.name: _LIMIT * row.seconds + 60 for row in rows}
    while True:
        process = subprocess.Popen([sys.executable, __file__, *words, "--worker", str(until)], start_new_session=True)
        why = None
        while process.poll() is None:
            time.sleep(0.2)
            row, at = _begun(results)
            if time.time() > until:
                why = "the time was over"
            elif row is not None and time.time() - at > limits[row]:
                why = f"took more than {limits[row]:.0f} s"
            if why is not None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        results.read()
        row, _ = _begun(results)
        (results.folder / BEGUN).unlink(missing_ok=True)
        if process.returncode == 0 or time.time() > until:
            return  # what was cut off by the time stays partial, and is measured by the next run
        if row is None:
            raise SystemExit(f"the process that measures has ended with {process.returncode} before its first row")
        results.fail(row, why or f"ended its process with {process.returncode}")


def _begun(results: Results) -> tuple[str | None, float]:
    try:
        values = json.loads((results.folder / BEGUN).read_text())
    except (OSError, ValueError):
        return None, 0.0
    return values["row"], values["at"]


def machine_of(device: torch.device) -> dict[str, str]:
    """What the figures belong to."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else benchmark.processor_name()
    versions = benchmark.library_versions(["torch", "triton", "timm", benchmark.OURS])
    return {"device": name, "CUDA": str(torch.version.cuda), "Python": sys.version.split()[0], **versions}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--budget", type=float, default=540, help="seconds that all of it may take")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="the folder of results, to go on with")
    parser.add_argument("--rows", default="", help="only rows whose names begin so")
    parser.add_argument("--again", action="store_true", help="measure again what has failed")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="shrunken models and maps, uncompiled: to try it")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    until = options.worker or time.time() + options.budget - _LAST_SECONDS
    if options.device == "cuda" and not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise SystemExit(f"benchmarks/gpu.py measures on a CUDA device, and PyTorch ({built}) finds none")
    device = torch.device(options.device)
    scale = Scale(device=device, rounds=options.rounds, tiny=options.tiny, compiler=not options.tiny)
    rows = [row for row in plan(scale) if row.name.startswith(options.rows)]
    results = Results(options.out)
    if options.worker is not None:
        work(rows, results, until, again=options.again)
        return 0
    results.belongs_to(machine_of(device))
    words = ["--out", str(options.out), "--rows", options.rows, "--rounds", str(options.rounds)]
    words += ["--device", options.device, *["--again"] * options.again, *["--tiny"] * options.tiny]
    oversee(rows, results, until, words)
    pending = [row.name for row in rows if not results.is_done(row.name, again=False)]
    path = options.out / f"{datetime.date.today().isoformat()}-gpu"
    report = {"machine": results.machine, "rounds": options.rounds, "rows": list(results.rows.values())}
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(results, pending))
    print(f"\n{path}.json, {path}.md\n{summary(results)}")
    if pending:
        print(f"not measured, {len(pending)} of {len(rows)} rows: the same command goes on with {pending[0]!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
