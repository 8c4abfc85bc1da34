"""One image at a time on cores that another program keeps busy, and from the start of a process, beside timm.

    python benchmarks/neighbours.py                   about four minutes
    python benchmarks/neighbours.py --rounds 20

Latency of Swin-T, 224 x 224 pixels, float32, random weights, on the first two cores that this process may use: alone,
and with one neighbour, a process that computes without end on the same cores. Ours, ours optimised and timm take turns,
in one process for each way in which OpenMP's threads may wait, and alone and neighbour alternate in blocks of rounds.
The start is from an empty Python process to the first logits, a new process each time, ours and timm in turns. Leave
the machine alone meanwhile. Written to benchmarks/results/, named after the day.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
MODEL = "swin_tiny_patch4_window7_224"
WAITS = {
    "as installed": {},
    "GOMP_SPINCOUNT=5000, as in commands": {"GOMP_SPINCOUNT": "5000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
BLOCK = 10  # rounds between a change of the neighbour
START = {
    "ours": f"import torch, swin_transformer_pytorch as swin; model = swin.create_model('{MODEL}').eval()",
    "timm": f"import torch, timm; model = timm.create_model('{MODEL}').eval()",
}
RUN = "\nwith torch.inference_mode(): model(torch.rand(1, 3, 224, 224))"


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps a core busy, on those that this one may use."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def latencies(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each model, alone and with a neighbour, in this process."""
    import timm
    import torch

    import swin_transformer_pytorch as swin

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    ours = swin.create_model(MODEL).eval()
    models = {
        "ours": ours,
        "ours, optimised": swin.optimize_for_inference(ours),
        "timm": timm.create_model(MODEL).eval(),
    }
    images = torch.rand(1, 3, 224, 224)
    found: dict[str, dict[str, list[float]]] = {name: {"alone": [], "neighbour": []} for name in models}

    def block(where: str, count: int) -> None:
        for _ in range(count):
            for name, model in models.items():
                begin = time.perf_counter()
                model(images)
                found[name][where].append(1000 * (time.perf_counter() - begin))

    with torch.inference_mode():
        for model in models.values():
            for _ in range(3):
                model(images)
        for done in range(0, rounds, BLOCK):
            count = min(BLOCK, rounds - done)
            block("alone", count)
            with neighbour():
                time.sleep(0.3)
                block("neighbour", count)
    return found


def starts(rounds: int) -> dict[str, list[float]]:
    """Seconds of a new process to its first logits."""
    found: dict[str, list[float]] = {name: [] for name in START}
    for _ in range(rounds + 1):
        for name, code in START.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code + RUN], check=True)
            found[name].append(time.perf_counter() - begin)
    return {name: times[1:] for name, times in found.items()}  # the first reads from disk, and builds kernels


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--start-rounds", type=int, default=9)
    parser.add_argument("--latencies-only", action="store_true", help=argparse.SUPPRESS)  # of one way to wait
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    if options.latencies_only:
        print(json.dumps(latencies(options.rounds)))
        return
    found: dict[str, Any] = {}
    for name, variables in WAITS.items():
        command = [sys.executable, __file__, "--latencies-only", "--rounds", str(options.rounds)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
        done = subprocess.run(command, env=environment | variables, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    found["start"] = starts(options.start_rounds)

    from swin_transformer_pytorch.benchmark.machine import library_versions, processor_name

    versions = ", ".join(f"{name} {version}" for name, version in library_versions(["torch", "timm"]).items())
    lines = [
        "| threads wait | model | alone, ms | with a neighbour, ms | as many times |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name in WAITS:
        for model, times in found[name].items():
            ratio = statistics.median(times["neighbour"]) / statistics.median(times["alone"])
            alone, beside = spread(times["alone"], ".1f"), spread(times["neighbour"], ".1f")
            lines.append(f"| {name} | {model} | {alone} | {beside} | {ratio:.2f} |")
    ratios = [ours / timm for ours, timm in zip(found["start"]["ours"], found["start"]["timm"], strict=True)]
    day = datetime.date.today().isoformat()
    text = f"""# On cores that are shared, and from a cold start, {day}

{processor_name()}, two cores; {versions}. {MODEL}, one image, float32, random weights.
Medians (and range) of {options.rounds} rounds; of the start of {options.start_rounds}.

{chr(10).join(lines)}

From an empty process to the first logits: ours {spread(found["start"]["ours"], ".2f")} s, timm
{spread(found["start"]["timm"], ".2f")} s; ours / timm {spread(ratios, ".2f")}.
"""
    (RESULTS / f"{day}-neighbours-cpu.md").write_text(text, encoding="utf-8")
    (RESULTS / f"{day}-neighbours-cpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
