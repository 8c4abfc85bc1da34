"""Feeds damaged and hostile files of every kind to the package; the table is in docs/reliability.md.

    python tools/fuzz.py                             all of them, about ten minutes on two cores
    python tools/fuzz.py --only images --seed 17     one again, with all that it says

Checkpoints, images, COCO's annotation files, recipes and label maps are changed in every way that a disk, a download, a
tool or a malicious person may change them, and read by the package's own entry points, each in a process of its own
that may take 20 seconds and 2 GB. What comes of it is counted: read rightly, or refused in one clear ValueError or
OSError; or a fault: CRASH (a signal), HANG, PEAK (of memory), TRACEBACK (another exception), SILENT (read as something
else than was in it), WRONG (an intact file is refused), UNCLEAR (the message does not name it, or fills pages).
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from fuzzing import checkpoints, coco, images, label_maps, recipes
from fuzzing.case import FAULTS, Maker, Outcome, ended, judge, start

KINDS: dict[str, tuple[Maker, int]] = {
    "checkpoints": (checkpoints.make, 500),
    "images": (images.make, 500),
    "coco": (coco.make, 300),
    "recipes": (recipes.make, 100),
    "label_maps": (label_maps.make, 100),
}


def seeded(kind: str, seed: int) -> random.Random:
    return random.Random(f"{kind} {seed}")


def run(kind: str, seeds: range, scratch: Path, jobs: int) -> list[Outcome]:
    """What came of a kind's cases, in the order of their seeds."""
    found: dict[int, Outcome] = {}
    running: dict[int, int] = {}
    waiting = list(reversed(seeds))
    while waiting or running:
        while waiting and len(running) < jobs:
            seed = waiting.pop()
            running[start(KINDS[kind][0], seeded(kind, seed), scratch / f"{kind}-{seed}")] = seed
        process, status = os.wait()
        seed = running.pop(process)
        folder = scratch / f"{kind}-{seed}"
        found[seed] = outcome = ended(folder, status)
        shutil.rmtree(folder, ignore_errors=True)
        if outcome.verdict in FAULTS:
            print(f"{outcome.verdict}: --only {kind} --seed {seed}: {outcome.what}\n{outcome.said[-1500:]}", flush=True)
    return [found[seed] for seed in seeds]


def row(kind: str, outcomes: list[Outcome]) -> str:
    counts = Counter(outcome.verdict for outcome in outcomes)
    numbers = (counts[verdict] for verdict in ("read", "refused", *FAULTS))
    peak, longest = max(outcome.peak for outcome in outcomes) / 2**20, max(outcome.seconds for outcome in outcomes)
    name = kind.replace("_", " ")
    return f"| {name} | {len(outcomes)} | {' | '.join(map(str, numbers))} | {peak:,.0f} MiB | {longest:.1f} s |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=KINDS, help="one kind")
    parser.add_argument("--seed", type=int, help="one case of it, in this process, with all that it says")
    parser.add_argument("--first", type=int, default=0, help="the first seed; others make other cases")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        if options.seed is not None:
            if options.only is None:
                parser.error("--seed needs --only KIND")
            outcome = judge(KINDS[options.only][0](seeded(options.only, options.seed), Path(scratch)))
            print(f"{outcome.verdict}: {outcome.what}\n{outcome.said}")
            return int(outcome.verdict in FAULTS)
        checkpoints.prepare()
        images.prepare()
        results: dict[str, list[Outcome]] = {}
        for kind in [options.only] if options.only else KINDS:
            seeds = range(options.first, options.first + KINDS[kind][1])
            results[kind] = run(kind, seeds, Path(scratch), options.jobs)
    minutes = (time.monotonic() - begun) / 60
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {options.jobs} processes at once; ", end="")
    print(f"{time.strftime('%Y-%m-%d')}, {minutes:.0f} minutes, seeds from {options.first}.\n")
    print(f"| kind | files | read | refused | {' | '.join(FAULTS)} | peak above the start | longest |")
    print("| --- |" + " ---: |" * (5 + len(FAULTS)))
    print(*(row(kind, outcomes) for kind, outcomes in results.items()), sep="\n")
    return int(any(outcome.verdict in FAULTS for outcomes in results.values() for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
