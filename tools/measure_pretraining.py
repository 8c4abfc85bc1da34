"""Measures what masked pre-training is worth where few images have labels: Fashion-MNIST, 1 % of its labels.

    python tools/measure_pretraining.py FOLDER [--output FOLDER] [--results FILE]

FOLDER holds Fashion-MNIST's four .gz files (Debian's package dataset-fashion-mnist; MIT licence). Once, the recipe
`fashion_pretraining` sees the 60,000 training images without labels. Then, for each seed, 60 images of each class are
drawn, and the recipe `fashion_finetune` learns from these 600: from the pre-trained weights, and from random ones,
drawn in the way that suits small models. Both see the same images, for as many steps, with the same rates; accuracy is
that of the last epoch on the 10,000 test images, which nothing was chosen by. A run that is there already is not done
again.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import platform
import statistics
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from swin_transformer_pytorch.benchmark.machine import processor_name
from swin_transformer_pytorch.data.classification.fashion import FashionMNIST
from swin_transformer_pytorch.training import load_recipe, train
from swin_transformer_pytorch.training.engine.callbacks import read_history

SEEDS, A_CLASS = 5, 60
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


def write_few(source: Path, folder: Path, seed: int) -> Path:
    """Fashion-MNIST with 60 training images of each class."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        part = FashionMNIST(source, split)  # type: ignore[arg-type]
        places = np.arange(len(part))
        if split == "train":
            drawn = [random.permutation(np.flatnonzero(part.labels == label))[:A_CLASS] for label in range(10)]
            places = np.sort(np.concatenate(drawn))
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", part.images[places])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", part.labels[places].astype(np.uint8))
    return folder


def run(recipe: str, output: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The last line of a run's history, and how long all of it took."""
    if not (output / "model.safetensors").exists():
        train(load_recipe(recipe, {**values, "output": str(output), "resume": True}), progress=False)
    lines = read_history(output / "history.jsonl")
    print(json.dumps({"run": output.name, **lines[-1]}), flush=True)
    return {**lines[-1], "seconds": sum(line["seconds"] for line in lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="FOLDER", help="with Fashion-MNIST's files")
    parser.add_argument("--output", type=Path, default=Path("runs/measure_pretraining"))
    parser.add_argument("--results", type=Path, help="where the table goes (default: benchmarks/results, by date)")
    options = parser.parse_args()
    weights = options.output / "pretraining" / "model.safetensors"
    pretrained = run("fashion_pretraining", weights.parent, {"data.root": str(options.root)})
    ways: dict[str, dict[str, Any]] = {
        "pre-trained on 60,000 images without labels": {"model.weights": str(weights)},
        "from scratch, `init: fan_in`": {"model.init": "fan_in"},
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for seed in range(SEEDS):
        few = write_few(options.root, options.output / f"few_{seed}", seed)
        for number, (way, values) in enumerate(ways.items()):
            line = run(
                "fashion_finetune",
                options.output / f"way{number}_seed{seed}",
                {"data.root": str(few), "trainer.seed": seed, **values},
            )
            found[way].append(line["val_top1"])
    today = datetime.date.today().isoformat()
    target = options.results or RESULTS / f"{today}-pretraining-fashion-cpu.md"
    target.write_text(describe(today, pretrained, found), encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


def describe(date: str, pretrained: dict[str, Any], found: dict[str, list[float]]) -> str:
    ours, scratch = found.values()
    rows = []
    for way, scores in found.items():
        each = ", ".join(f"{100 * score:.2f}" for score in scores)
        mean, spread = 100 * statistics.mean(scores), 100 * statistics.stdev(scores)
        rows.append(f"| {way} | {mean:.2f} | {spread:.2f} | {each} |")
    gains = [100 * (first - second) for first, second in zip(ours, scratch, strict=True)]
    gain, spread = statistics.mean(gains), statistics.stdev(gains)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision", "lightning"))
    return f"""# Fashion-MNIST with 1 % of its labels, after masked pre-training and without

{date}, {processor_name()}, {torch.get_num_threads()} thread(s) on a machine that others used too, Python \
{platform.python_version()}, {versions}. `python tools/measure_pretraining.py FOLDER` does it again.

600 labelled images, 60 a class, drawn anew for each of {SEEDS} seeds; top-1 on the 10,000 test images, in percent, of
the last epoch.

| start | mean | standard deviation | seeds 0 to {SEEDS - 1} |
| --- | ---: | ---: | --- |
{chr(10).join(rows)}

Pre-training against scratch, seed by seed: {gain:+.2f} ± {spread:.2f} percentage points (mean and
standard deviation of {SEEDS} differences). Pre-training: {pretrained["epoch"]} epochs, {pretrained["step"]:,} steps, \
{pretrained["seconds"] / 60:.0f} minutes, loss on the test images {pretrained["val_loss"]:.4f}.

Longer fine-tuning, which may make up for a worse start, was not measured.
"""


if __name__ == "__main__":
    main()
