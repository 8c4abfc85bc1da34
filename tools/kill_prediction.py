"""Ends `swin predict` in every bad way, and shows what is lost of its results; the table is in docs/reliability.md.

    python tools/kill_prediction.py

It kills (SIGKILL) at random moments, signals, and fills the disk, while the shipped detector and segmenter predict for
scenes and draw them. Each time `--resume` goes on until the end, and then rows, pictures and label maps are compared
with those of the prediction that nothing happened to, byte by byte.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.scenes.files import write_scenes

NUM_IMAGES = 60
WORDS = {
    "detector": ("--weights", "scenes_detection", "--pictures", "out/pictures"),
    "segmenter": ("--weights", "scenes_segmentation", "--pictures", "out/pictures", "--labels", "out/labels"),
}


@dataclass
class Row:
    """What was done, and what came of it."""

    what: str
    times: int = 0
    writing: int = 0
    lost: int = 0
    doubled: int = 0
    ends: list[bool] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = f"{sum(self.ends)} of {len(self.ends)}"
        return f"| {self.what} | {self.times} | {self.writing} | {self.lost} | {self.doubled} | {ends} |"


class Trial:
    """One prediction in a folder of its own, which is ended and resumed as often as need be."""

    def __init__(self, folder: Path, images: Path, model: str) -> None:
        self.folder = folder
        self.rows, self.partial = folder / "out" / "rows.jsonl", folder / "out" / "rows.jsonl.partial"
        self.words = ["predict", str(images), *WORDS[model], "--output", "out/rows.jsonl", "--resume"]
        folder.mkdir(parents=True)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "swin_transformer_pytorch", *self.words],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def whole_rows(self) -> list[bytes]:
        path = self.partial if self.partial.exists() else self.rows
        return [line for line in path.read_bytes().splitlines(True) if line.endswith(b"\n")] if path.exists() else []

    def is_half_done(self) -> bool:
        """Whether a row, or a picture, was being written when the process ended."""
        torn = self.partial.exists() and not self.partial.read_bytes().endswith(b"\n")
        return torn or any(self.folder.glob("out/*/.*"))

    def finish(self) -> bool:
        """Resumes until the end. Whether it got there."""
        process = self.start()
        process.communicate()
        return process.returncode == 0

    def content(self) -> dict[str, bytes]:
        paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}


def count(row: Row, trial: Trial, before: list[bytes]) -> None:
    """Adds what the end of a process has left. What was whole before it must still be there, and only once."""
    rows = trial.whole_rows()
    row.times += 1
    row.writing += trial.is_half_done()
    row.lost += sum(line not in rows for line in before)
    names = [json.loads(line)["path"] for line in rows]
    row.doubled += len(names) - len(set(names))
    print(f"  {row.what}: ended with {len(rows)} rows", file=sys.stderr)


def close(row: Row, trial: Trial, whole: Trial) -> None:
    """Lets a prediction end, and compares it with the one that nothing happened to."""
    kept = trial.whole_rows()
    row.ends.append(trial.finish() and trial.content() == whole.content())
    rows = trial.whole_rows()
    row.lost += NUM_IMAGES - len({json.loads(line)["path"] for line in rows}) + sum(line not in rows for line in kept)
    row.doubled += max(0, len(rows) - NUM_IMAGES)


def wait_for_rows(trial: Trial, process: subprocess.Popen[str], more: int) -> None:
    """Until the process has written so many."""
    wanted = len(trial.whole_rows()) + more
    while process.poll() is None and len(trial.whole_rows()) < wanted:
        time.sleep(0.001)


def end_by(row: Row, trial: Trial, end: Callable[[subprocess.Popen[str]], int]) -> bool:
    """Starts a process and has it ended by `end`, which gives the exit code to expect. False where it was too late."""
    before = trial.whole_rows()
    process = trial.start()
    expected = end(process)
    _, said = process.communicate()
    if process.returncode == 0:
        return False
    count(row, trial, before)
    hint = expected < 0 or "the same command with --resume goes on" in said or not trial.whole_rows()
    if process.returncode != expected or "Traceback" in said or not hint:
        row.notes.append(f"{row.what}, exit {process.returncode}: {said[-500:]}")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, start = random.Random(options.seed), time.monotonic()
    os.environ["OMP_NUM_THREADS"] = "1"

    def kill_at_random(process: subprocess.Popen[str], trial: Trial) -> int:
        wait_for_rows(trial, process, 1)
        time.sleep(chance.uniform(0, 1))
        process.kill()
        return -signal.SIGKILL

    def kill_after_a_row(process: subprocess.Popen[str], trial: Trial) -> int:
        wait_for_rows(trial, process, chance.randrange(1, 15))
        process.kill()
        return -signal.SIGKILL

    def stop(process: subprocess.Popen[str], trial: Trial) -> int:
        wait_for_rows(trial, process, chance.randrange(1, 15))
        number = chance.choice((signal.SIGTERM, signal.SIGINT))
        process.send_signal(number)
        return 128 + number

    def fill(process: subprocess.Popen[str], trial: Trial) -> int:
        """Not a byte more fits into any file."""
        wait_for_rows(trial, process, chance.randrange(1, 15))
        limit = trial.partial.stat().st_size + chance.randrange(200)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        return 2

    half = options.kills // 2
    plan = [(Row("killed at a random moment"), kill_at_random, options.kills - half)]
    plan += [(Row("killed when a row is there"), kill_after_a_row, half)]
    plan += [(Row("SIGTERM and SIGINT"), stop, 6), (Row("the disk fills up"), fill, 6)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scenes = open_scenes("scenes_sample", "val", num_scenes=NUM_IMAGES)
        images = write_scenes(scenes, folder / "scenes", "val").images
        wholes = {model: Trial(folder / f"whole-{model}", images, model) for model in WORDS}
        assert all(whole.finish() for whole in wholes.values())
        models = itertools.cycle(WORDS)
        for row, end, wanted in plan:
            while row.times < wanted:
                model = next(models)
                trial = Trial(folder / f"{row.what} {row.times} {len(row.ends)}".replace(" ", "-"), images, model)
                for _ in range(min(4, wanted - row.times)):
                    if not end_by(row, trial, functools.partial(end, trial=trial)):
                        break
                close(row, trial, wholes[model])
    rows = [row for row, _, _ in plan]
    print(f"{NUM_IMAGES} images; torch {torch.__version__}, Python {sys.version.split()[0]}, ")
    print(f"{time.strftime('%Y-%m-%d')}, {(time.monotonic() - start) / 60:.0f} minutes on one core.\n")
    print("| what was done | times | of them in a write | results lost | doubled | same end, to the byte |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    print(*rows, sep="\n")
    notes = [note for row in rows for note in row.notes]
    print(*notes, sep="\n", file=sys.stderr)
    return int(bool(notes) or any(row.lost or row.doubled or not all(row.ends) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
