"""Ends a small training in every bad way, and shows what is lost of it; the table is in docs/reliability.md.

    python tools/kill_training.py

It kills (SIGKILL) at random moments and while a checkpoint is written, with TMPDIR on this and on another file system,
fills the disk, damages the last checkpoint, and signals. Each time the run is resumed to its end, and its weights,
running mean, optimizer state and exported file are compared with those of the run that nothing happened to.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from swin_transformer_pytorch.training import load_recipe, train
from swin_transformer_pytorch.training.recipes.classification import Recipe
from swin_transformer_pytorch.weights.files import read_checkpoint
from swin_transformer_pytorch.whole import is_intact

EVERY_STEPS = 2
SETTINGS: dict[str, Any] = {
    "model.config": {"patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4},
    "data.batch_size": 200,
    "schedule.epochs": 4,
    "trainer.checkpoint_every_steps": EVERY_STEPS,
    "trainer.device": "cpu",
}
# A training that notes each step when its weights have been changed, so that what is lost can be counted.
PROGRAM = """
import os, sys
from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.training.engine.module import Training

step, log = Training.optimizer_step, os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def noting(self, *arguments, **options):
    step(self, *arguments, **options)
    os.write(log, f"{self.global_step + 1}\\n".encode())  # Lightning counts it after this

Training.optimizer_step = noting
sys.exit(main(["train", *sys.argv[2:]]))
"""


@dataclass
class Row:
    """What was done, and what came of it."""

    what: str
    times: int = 0
    writing: int = 0
    lost: list[int] = field(default_factory=list)
    broken: int = 0
    ends: list[bool] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lost = f"{max(self.lost)}" if self.lost else "-"
        ends = f"{sum(self.ends)} of {len(self.ends)}"
        return f"| {self.what} | {self.times} | {self.writing} | {self.broken} | {lost} | {ends} |"


class Trial:
    """One run in a folder of its own, which is ended and resumed as often as need be."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.output = folder / "run"
        self.steps = folder / "steps"
        self.environment = environment
        self.words = [str(folder / "recipe.json")]
        folder.mkdir(parents=True)
        (folder / "recipe.json").write_text(json.dumps(recipe_in(self.output).to_dict()))

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(self.steps), *self.words, "--resume"]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.environment
        )

    def log(self) -> list[str]:
        return self.steps.read_text().split() if self.steps.exists() else []

    def done_steps(self) -> int:
        return int((self.log() or ["0"])[-1])

    def wait_for_steps(self, process: subprocess.Popen[str], count: int) -> None:
        """Until the process has done so many."""
        wanted = len(self.log()) + count
        wait_for(lambda: len(self.log()) >= wanted, process)

    def whole_step(self) -> int:
        """The step of the newest checkpoint that is whole; 0 for none."""
        for name in ("last.ckpt", "previous.ckpt"):
            path = self.output / name
            try:
                if path.exists() and is_intact(path):
                    return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
            except Exception:
                continue
        return 0

    def broken_files(self) -> int:
        """Checkpoints under their own names that are not whole."""
        paths = [self.output / name for name in ("last.ckpt", "previous.ckpt", "best.ckpt")]
        broken = 0
        for path in filter(Path.exists, paths):
            try:
                torch.load(path, map_location="cpu", weights_only=True)
                broken += not is_intact(path)
            except Exception:
                broken += 1
        return broken

    def resume(self) -> Path:
        return train(recipe_in(self.output).replace({"resume": True}), progress=False).output


def recipe_in(output: Path) -> Recipe:
    recipe = load_recipe("demo_classification", {**SETTINGS, "output": str(output)})
    assert isinstance(recipe, Recipe)
    return recipe


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], *, pause: float = 0.002) -> None:
    while process.poll() is None and not condition():
        time.sleep(pause)


def kill_until(trial: Trial, row: Row, kills: int, chance: random.Random, *, in_write: bool) -> None:
    """Kills a run and starts it again, `kills` times or until it has ended, then lets it end."""
    for _ in range(kills):
        process = trial.start()
        if in_write:
            trial.wait_for_steps(process, EVERY_STEPS * chance.randrange(6))
            wait_for(lambda: any(trial.output.glob(".last.ckpt.*")), process, pause=0)
        else:
            trial.wait_for_steps(process, 1)
            time.sleep(chance.uniform(0, 1.2))
        if process.poll() is not None:
            process.communicate()
            break
        process.kill()
        process.communicate()
        row.times += 1
        row.writing += any(trial.output.glob(".*.ckpt.*"))
        row.broken += trial.broken_files()
        row.lost.append(trial.done_steps() - trial.whole_step())
        print(f"  {row.what}: killed after step {trial.done_steps()}, lost {row.lost[-1]}", file=sys.stderr)


def kills(row: Row, wanted: int, folder: Path, ends: Path, chance: random.Random, **options: Any) -> None:
    environment = options.pop("environment")
    number = 0
    while row.times < wanted:
        trial = Trial(folder / f"{row.what[:20]}-{number}".replace(" ", "-"), environment)
        kill_until(trial, row, min(wanted - row.times, 4), chance, **options)
        row.ends.append(same_end(trial.resume(), ends))
        number += 1


def damages(row: Row, folder: Path, ends: Path, chance: random.Random, environment: dict[str, str]) -> None:
    """A run that was killed, whose last checkpoint is then damaged in one way after another."""
    killed = Trial(folder / "damaged", environment)
    process = killed.start()
    wait_for(lambda: killed.done_steps() >= 9 and (killed.output / "previous.ckpt").exists(), process)
    process.kill()
    process.communicate()
    good = (killed.output / "last.ckpt").read_bytes()
    middle = len(good) // 2
    flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
    for name, bad in {
        "empty": b"",
        "cut in half": good[:middle],
        "cut by a byte": good[:-1],
        "one bit changed": flipped,
        "zeros": bytes(len(good)),
        "random bytes": chance.randbytes(len(good)),
        "gone": None,
    }.items():
        copy = Trial(folder / f"damaged-{name.replace(' ', '-')}", environment)
        shutil.copytree(killed.output, copy.output)
        (copy.output / "last.ckpt").unlink()
        if bad is not None:
            (copy.output / "last.ckpt").write_bytes(bad)
        row.times += 1
        row.lost.append(killed.done_steps() - copy.whole_step())
        row.ends.append(same_end(copy.resume(), ends))


def full_disks(row: Row, folder: Path, ends: Path, environment: dict[str, str]) -> None:
    """The disk is filled while the run is going, and emptied before it is resumed."""
    for number, after in enumerate((1, 3, 5, 9)):
        with small_disk(folder / f"disk-{number}") as disk:
            trial = Trial(disk / "trial", environment)
            process = trial.start()
            trial.wait_for_steps(process, after)
            filler = disk / "filler"
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(1 << 12))
            _, said = process.communicate()
            row.times += 1
            row.broken += trial.broken_files()
            if process.returncode != 2 or "Traceback" in said or "cannot be written (No space left" not in said:
                row.notes.append(f"exit {process.returncode}: {said[-500:]}")
            row.lost.append(trial.done_steps() - trial.whole_step())
            filler.unlink()
            row.ends.append(same_end(trial.resume(), ends))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def signals(row: Row, folder: Path, ends: Path, chance: random.Random, environment: dict[str, str]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        trial = Trial(folder / f"signal-{row.times}", environment)
        process = trial.start()
        trial.wait_for_steps(process, 1)
        time.sleep(chance.uniform(0, 1.0))
        process.send_signal(number)
        _, said = process.communicate()
        row.times += 1
        row.broken += trial.broken_files()
        if process.returncode != 128 + number or "Traceback" in said or "--resume continues" not in said:
            row.notes.append(f"{number.name}, exit {process.returncode}: {said[-500:]}")
        row.lost.append(trial.done_steps() - trial.whole_step())
        row.ends.append(same_end(trial.resume(), ends))


def same_end(output: Path, whole: Path) -> bool:
    """Whether two finished runs are equal to the bit, and nothing is left lying about."""
    one, other = (torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True) for folder in (output, whole))
    parts = ("state_dict", "ema_state_dict", "optimizer_states", "global_step")
    # Not their bytes: safetensors draws the order of its header's entries.
    exported = [read_checkpoint(folder / "model.safetensors") for folder in (output, whole)]
    litter = [path for path in output.iterdir() if path.name.startswith(".")]
    same_export = all(
        equal(getattr(exported[0], part), getattr(exported[1], part)) for part in ("state_dict", "metadata")
    )
    return all(equal(one[part], other[part]) for part in parts) and same_export and not litter


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="SIGKILLs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--elsewhere", type=Path, default=Path("/dev/shm"), help="a folder on another file system")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    torch.set_num_threads(1)
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    third = options.kills // 3
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory(dir=options.elsewhere) as elsewhere:
        folder = Path(scratch)
        here, there = ({**environment, "TMPDIR": path} for path in (scratch, elsewhere))
        whole = train(recipe_in(folder / "whole"), progress=False)
        steps = torch.load(whole.last, map_location="cpu", weights_only=True)["global_step"]
        rows = [Row("killed at a random moment"), Row("killed while a checkpoint is written")]
        rows += [Row("the same, TMPDIR on another file system"), Row("the disk fills up")]
        rows += [Row("last.ckpt damaged or gone, after a kill"), Row("SIGTERM and SIGINT")]
        kills(rows[0], options.kills - 2 * third, folder / "a", whole.output, chance, environment=here, in_write=False)
        kills(rows[1], third, folder / "b", whole.output, chance, environment=here, in_write=True)
        kills(rows[2], third, folder / "c", whole.output, chance, environment=there, in_write=True)
        full_disks(rows[3], folder, whole.output, here)
        damages(rows[4], folder, whole.output, chance, here)
        signals(rows[5], folder, whole.output, chance, here)
    print(
        f"{steps} steps, a checkpoint every {EVERY_STEPS}; torch {torch.__version__}, Python {sys.version.split()[0]}, "
    )
    print(f"{time.strftime('%Y-%m-%d')}, {(time.monotonic() - start) / 60:.0f} minutes on one core.\n")
    print("| what was done | times | of them in a write | broken files | steps lost, most | same end, to the bit |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    print(*rows, sep="\n")
    notes = [note for row in rows for note in row.notes]
    print(*notes, sep="\n", file=sys.stderr)
    limits = [EVERY_STEPS, EVERY_STEPS, EVERY_STEPS, EVERY_STEPS, 2 * EVERY_STEPS, 0]
    lost = any(max(row.lost) > limit for row, limit in zip(rows, limits, strict=True))
    return int(bool(notes) or lost or any(row.broken or not all(row.ends) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
