"""Kills trainings on shards of a store that is slow and fails, and goes on with other numbers of processes that read.

    python tools/kill_shards.py

A run on the folder of shards, read by the training process itself, is what all others must equal to the bit: weights,
running mean, optimizer state and exported file. Each of these reads a store on loopback through a cache that holds two
windows, which is emptied now and then. It is killed (SIGKILL) at random moments, and every time goes on with another
number of reading processes. The store takes its time, answers 503, and cuts answers short.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from flaky_store import FlakyStore, serving
from kill_training import PROGRAM, Trial, same_end, wait_for
from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.shards.pack import Files, pack
from swin_transformer_pytorch.training import load_recipe, train
from swin_transformer_pytorch.training.recipes.classification import Recipe

EVERY_STEPS = 3
CLASSES, IMAGES, BATCH, EPOCHS = 4, 600, 16, 3
SHARD_BYTES = 40_000


def make(root: Path) -> Path:
    """Shards of noise, about 27 images each."""
    folders = root / "folders"
    for number in range(IMAGES):
        path = folders / f"class{number % CLASSES}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    train = ImageFolder(folders, "train")
    parts = {
        name: Files(paths=one.paths, labels=one.labels) for name, one in (("train", train), ("val", train.part("val")))
    }
    pack(parts, folders, root / "shards", classes=train.classes, shard_bytes=SHARD_BYTES)
    return root / "shards"


def recipe_in(output: Path, root: str, cache: Path) -> Recipe:
    values = {
        "model.config": {"patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [1, 2], "window_size": 2},
        "model.in_channels": 3,
        "data.kind": "shards",
        "data.root": root,
        "data.image_size": 16,
        "data.batch_size": BATCH,
        "data.shards.window": 3,
        "data.shards.cache": str(cache),
        "data.shards.cache_gb": 7 * 3 * SHARD_BYTES / 1e9,
        "schedule.epochs": EPOCHS,
        "schedule.warmup_epochs": 0.5,
        "trainer.checkpoint_every_steps": EVERY_STEPS,
        "trainer.device": "cpu",
        "output": str(output),
    }
    recipe = load_recipe("demo_classification", values)
    assert isinstance(recipe, Recipe)
    return recipe


class ShardTrial(Trial):
    """A run that reads the store, each time with another number of processes."""

    def __init__(self, folder: Path, server: FlakyStore, chance: random.Random) -> None:
        super().__init__(folder, {**os.environ, "OMP_NUM_THREADS": "1"})
        self.recipe = recipe_in(self.output, server.url, folder / "cache")
        self.server, self.chance, self.workers = server, chance, -1
        (folder / "recipe.json").write_text(json.dumps(self.recipe.to_dict()))

    def start(self) -> subprocess.Popen[str]:
        self.workers = self.chance.choice([number for number in range(4) if number != self.workers])
        if self.chance.random() < 0.3:
            shutil.rmtree(self.output.parent / "cache", ignore_errors=True)
        self.server.fail["*"] = (self.chance.randrange(4), 503)
        self.server.cut.update(f"train-{self.chance.randrange(9):06d}.tar" for _ in range(2))
        words = [*self.words, "--resume", "--data.num_workers", str(self.workers)]
        command = [sys.executable, "-c", PROGRAM, str(self.steps), *words]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.environment
        )

    def resume(self) -> Path:
        process = self.start()
        _, said = process.communicate()
        if process.returncode:
            raise RuntimeError(said[-2000:])
        return self.output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=16, help="SIGKILLs in all, at most four a run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, start = random.Random(options.seed), time.monotonic()
    torch.set_num_threads(1)
    done = 0
    ends: list[bool] = []
    lost, workers = [0], []
    with tempfile.TemporaryDirectory() as scratch:
        shards = make(Path(scratch))
        whole = train(recipe_in(Path(scratch) / "whole", str(shards), Path(scratch) / "unused"), progress=False).output
        with serving(shards) as server:
            server.seconds = 0.05
            while done < options.kills:
                trial = ShardTrial(Path(scratch) / f"trial-{len(ends)}", server, chance)
                for _ in range(min(4, options.kills - done)):
                    process = trial.start()
                    wanted = len(trial.log()) + chance.randrange(1, 12)
                    wait_for(lambda trial=trial, wanted=wanted: len(trial.log()) >= wanted, process)  # type: ignore[misc]
                    time.sleep(chance.uniform(0, 0.3))
                    if process.poll() is not None:
                        process.communicate()
                        break
                    process.kill()
                    process.communicate()
                    done += 1
                    workers.append(trial.workers)
                    lost.append(trial.done_steps() - trial.whole_step())
                    print(f"  killed after step {trial.done_steps()}, {trial.workers} read", file=sys.stderr)
                ends.append(same_end(trial.resume(), whole))
                workers.append(trial.workers)
    print(
        f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}: {done} kills in {len(ends)} runs of "
        f"{EPOCHS * (IMAGES * 4 // 5 // BATCH)} steps, {min(workers)} to {max(workers)} reading processes, "
        f"{sum(server.asked.values()):,} requests; at most {max(lost)} steps lost; {sum(ends)} of {len(ends)} ends the "
        f"same, to the bit; {(time.monotonic() - start) / 60:.0f} minutes"
    )
    return int(not all(ends) or max(lost) > EVERY_STEPS)


if __name__ == "__main__":
    sys.exit(main())
