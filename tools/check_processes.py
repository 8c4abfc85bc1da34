"""Trains each task on one process and on several, kills the latter, and compares all ends: losses, weights, bits.

    python tools/check_processes.py [--output FILE]

Processes of the CPU (gloo) stand for devices; each has one thread. Chance within a step, which differs by device, is
left out (mixing, dropout), so that two devices of a batch are to do what one does with two. Rows:

- "2 processes": DDP and FSDP of half the batch, against one process: the largest difference of an epoch's losses.
- "killed": each of these, its first process killed (SIGKILL) in its second epoch and resumed: equal to the bit or not.
- "2 x 2": two nodes by torchrun of two processes each, with folders of their own for DDP, and HSDP with parameters
  shared within a node and checkpoints in parts.
- "restarts": torchrun --max-restarts, a process killed in the middle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from swin_transformer_pytorch.training import load_recipe

# Arguments: the recipe, the batches after which the first process is killed unless the file beside it is there.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.training.engine.module import Training

steps, step = 0, Training.training_step

def dying(self, batch, batch_idx):
    global steps
    steps += 1
    flag = Path(sys.argv[1] + ".killed")
    if steps > int(sys.argv[2]) and self.global_rank == 0 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

Training.training_step = dying
sys.exit(main(["train", sys.argv[1], "--resume"]))
"""
BACKBONE = {
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 4,
    "drop_path_rate": 0,
}
NEVER = 10**6
DENSE = {"data.kind": "scenes_sample", "data.num_scenes": 24, "data.num_val_scenes": 7, "data.scene_size": [64, 64]}
DENSE |= {"data.scale": None, "data.batch_size": 4}
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": (
        "demo_classification",
        {
            "model.config": BACKBONE,
            "data.batch_size": 320,
            "data.augmentation.mixup": 0,
            "data.augmentation.cutmix": 0,
            "schedule.warmup_epochs": 0.5,
        },
    ),
    "pretraining": (
        "fashion_pretraining",
        {
            "data.kind": "fashion_sample",
            "data.batch_size": 320,
            "model.config": {"backbone": BACKBONE, "mask_unit": 4},
            "trainer.precision": "32-true",
        },
    ),
    "detection": (
        "scenes_detection",
        {**DENSE, "model.config": {"backbone": BACKBONE, "fpn_dim": 16, "fc_dim": 16}},
    ),
    "segmentation": (
        "scenes_segmentation",
        {**DENSE, "model.config": {"backbone": BACKBONE, "decode_dim": 16, "auxiliary_dim": 16, "auxiliary_index": 0}},
    ),
    "panoptic": (
        "scenes_panoptic",
        {
            **DENSE,
            "model.config": {
                "backbone": BACKBONE,
                "dim": 32,
                "attention_heads": 2,
                "encoder_dim": 32,
                "encoder_layers": 1,
                "feedforward_dim": 32,
                "decoder_layers": 2,
                "num_queries": 10,
                "loss_points": 64,
            },
        },
    ),
}
# A detector draws its training boxes by chance, a Mask2Former its points: each device has its own.
COMPARED = ("classification", "pretraining", "segmentation")


class Trials:
    """Runs in folders of one place."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "program.py").write_text(PROGRAM)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def recipe(self, task: str, name: str, folder: Path, overrides: dict[str, Any]) -> Path:
        recipe_name, own = TASKS[task]
        values = {
            **own,
            "model.weights": None,
            "data.num_workers": 0,
            "schedule.epochs": 2,
            "trainer.device": "cpu",
            "trainer.ema_decay": 0.9,
            "trainer.checkpoint_every_steps": 1,
            "output": str(folder / name),
        }
        if task in ("detection", "segmentation", "panoptic"):
            values |= {"schedule.steps": None, "trainer.validate_every_steps": None, "schedule.warmup_steps": 1}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(load_recipe(recipe_name, values | overrides).to_dict()))
        return path

    def run(
        self, task: str, name: str, overrides: dict[str, Any], *, kill_after: int = NEVER, restarts: int = 0
    ) -> Path:
        """A run on this machine, by Lightning, or by torchrun where it may restart."""
        path = self.recipe(task, name, self.place / task, overrides)
        words = [str(self.place / "program.py"), str(path), str(kill_after)]
        if restarts:
            launch = ["--nproc-per-node", "2", "--max-restarts", str(restarts), "--master-port", str(free_port())]
            words = ["-m", "torch.distributed.run", *launch, *words]
        while True:
            done = subprocess.run([sys.executable, *words], env=self.environment, capture_output=True, text=True)
            if done.returncode == 0:
                return path.with_suffix("")
            if done.returncode not in (2, -9) or not path.with_name(f"{path.name}.killed").exists():
                raise SystemExit(f"{task} {name}: {done.returncode}\n{done.stderr[-3000:]}")

    def nodes(self, task: str, name: str, overrides: dict[str, Any], *, shared: bool) -> Path:
        """Two nodes of two processes each; where nothing is shared each has a folder of its own."""
        port, started = free_port(), []
        for rank in range(2):
            folder = self.place / task / ("shared" if shared else f"node{rank}")
            two = {"trainer.num_nodes": 2, "trainer.devices": 2, **overrides}
            path = self.recipe(task, name, folder, two)
            launch = ["--nnodes", "2", "--nproc-per-node", "2", "--node-rank", str(rank), "--master-addr", "localhost"]
            words = ["-m", "torch.distributed.run", *launch, "--master-port", str(port), str(self.place / "program.py")]
            command = [sys.executable, *words, str(path), str(NEVER)]
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            started.append(subprocess.Popen(command, env=self.environment, **pipes))
        ended = [process.communicate() for process in started]
        if any(process.returncode for process in started):
            raise SystemExit(f"{task} {name}:\n{ended[0][1][-3000:]}\n{ended[1][1][-3000:]}")
        return self.place / task / ("shared" if shared else "node0") / name


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [line[name] for line in lines for name in ("train_loss", "val_loss") if name in line]


def difference(run: Path, other: Path) -> str:
    pairs = zip(losses(run), losses(other), strict=True)
    return f"{max(abs(one - two) / abs(two) for one, two in pairs):.1e}"


def same_bits(run: Path, other: Path) -> str:
    one, two = (load_file(path / "model.safetensors") for path in (run, other))
    equal = one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    return "equal" if equal else "OTHERS"


def measure(place: Path, tasks: list[str]) -> list[tuple[str, str, str, str]]:
    """(task, what was done, against what, result)."""
    trials, rows = Trials(place), []
    for task in tasks:
        batch = TASKS[task][1]["data.batch_size"]
        single = trials.run(task, "single", {})
        ends = {}
        for strategy in ("ddp", "fsdp"):
            both = {"trainer.devices": 2, "trainer.strategy": strategy, "data.batch_size": batch // 2}
            ends[strategy] = trials.run(task, strategy, both)
            if task in COMPARED:
                rows.append((task, f"{strategy}, 2 x {batch // 2}", f"1 x {batch}", difference(ends[strategy], single)))
            killed = trials.run(task, f"{strategy}_killed", both, kill_after=4)
            rows.append(
                (task, f"{strategy}, killed and resumed", f"{strategy}, left alone", same_bits(killed, ends[strategy]))
            )
            print(*rows[-1], sep="  ", flush=True)
        rows.append((task, "fsdp", "ddp", difference(ends["fsdp"], ends["ddp"])))
    if "classification" not in tasks:
        return rows
    ddp = place / "classification" / "ddp"
    both = {"trainer.devices": 2, "data.batch_size": 160}
    again = trials.run("classification", "restarts", both, kill_after=4, restarts=2)
    rows.append(("classification", "torchrun --max-restarts 2, killed", "ddp, left alone", same_bits(again, ddp)))
    single = place / "classification" / "single"
    own = trials.nodes("classification", "ddp", {"data.batch_size": 80}, shared=False)
    rows.append(("classification", "2 nodes x 2, a folder each", "1 x 320", difference(own, single)))
    parts = {"data.batch_size": 80, "trainer.strategy": "hsdp", "trainer.checkpoints": "sharded"}
    hsdp = trials.nodes("classification", "hsdp", parts, shared=True)
    rows.append(("classification", "hsdp, 2 nodes x 2, checkpoints in parts", "1 x 320", difference(hsdp, single)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp())
    try:
        rows = measure(place, options.tasks)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    machine = f"torch {torch.__version__}, gloo, {platform.machine()}, {os.cpu_count()} cores, one thread a process"
    head = [f"# Many processes, {date.today()}", "", f"`tools/check_processes.py`, {machine}."]
    head += ["Differences are the largest of the epochs' losses, relative; others are of weights.", ""]
    head += ["| task | run | beside | result |", "| --- | --- | --- | --- |"]
    text = "\n".join([*head, *lines, ""])
    print(text)
    if options.output is not None:
        options.output.write_text(text)
    sys.exit(any(row[-1] == "OTHERS" for row in rows))


if __name__ == "__main__":
    main()
