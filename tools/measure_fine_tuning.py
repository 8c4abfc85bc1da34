"""Measures what `trainer.freeze` saves, and what sampling and class weights do for a rare class.

    python tools/measure_fine_tuning.py

1. A training step of Swin-T, 4 images of 224 x 224 pixels, with parts frozen: time, in turns, as the median of the
   ratios to a step in which all learns, and the bytes that it keeps for its way back.
2. T-shirts beside shirts, which are hard to tell apart, 200 images to 10, from random weights: how many shirts and
   T-shirts of the test images are found, over three seeds.

The tables are in docs/guide/fine-tune.md. Some minutes on two cores.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import swin_transformer_pytorch as swin
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.training import load_recipe, train
from swin_transformer_pytorch.training.engine.freezing import freeze
from swin_transformer_pytorch.training.recipes.parts import Freeze
from swin_transformer_pytorch.training.tasks.batch_sizes import saved_storages

MODEL, BATCH, ROUNDS = "swin_tiny_patch4_window7_224", 4, 15
FROZEN: tuple[Freeze | None, ...] = (None, 1, 2, 3, "backbone")
COMMON, RARE, NUM_COMMON, NUM_RARE, SEEDS = "T-shirt or top", "Shirt", 200, 10, 3
WAYS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "`data.sampling balanced`": {"data.sampling": "balanced"},
    "`loss.class_weights balanced`": {"loss.class_weights": "balanced"},
}


def step_with(frozen: Freeze | None, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    torch.manual_seed(0)
    model = swin.create_model(MODEL, num_classes=10)
    assert not isinstance(model, str)
    model.train()
    freeze(model, frozen)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-4, fused=True)

    def step() -> object:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def kept_bytes(step: Callable[[], object]) -> int:
    """What a step's graph holds on to, weights too."""
    with saved_storages() as storages:
        step()
    return sum(storages.values())


def measure_freezing() -> None:
    images, labels = torch.randn(BATCH, 3, 224, 224), torch.arange(BATCH)
    steps = {frozen: step_with(frozen, images, labels) for frozen in FROZEN}
    times = benchmark.alternate(steps, ROUNDS)
    print("| frozen | a step | time | kept for the way back |\n| --- | ---: | ---: | ---: |")
    for frozen, step in steps.items():
        ratio = benchmark.median_ratio(times[frozen], times[None])
        milliseconds, kept = 1000 * statistics.median(times[frozen]), kept_bytes(step) / 1e6
        print(f"| {'nothing' if frozen is None else frozen} | {milliseconds:.0f} ms | {ratio:.2f} | {kept:.0f} MB |")


def write_clothes(folder: Path) -> None:
    """Training images of both classes, few of one, and all of their test images for validation."""
    for part, split, most in (("train", "train", {COMMON: NUM_COMMON, RARE: NUM_RARE}), ("val", "test", {})):
        sample = FashionSample(split)  # type: ignore[arg-type]
        for name in (COMMON, RARE):
            label = [one.replace("/", " or ") for one in sample.classes].index(name)
            (folder / part / name).mkdir(parents=True)
            for place in np.flatnonzero(sample.labels == label)[: most.get(name)].tolist():
                sample[place][0].save(folder / part / name / f"{place}.png")


def recalls(folder: Path, overrides: dict[str, Any], seed: int) -> list[float]:
    """Of each class, the part of its validation images that is found."""
    values = {
        "data.kind": "folder",
        "data.root": str(folder),
        "data.batch_size": 32,
        "data.num_workers": 0,
        "data.image_size": 28,
        "schedule.epochs": 40,
        "trainer.validate_every_epochs": 40,
        "trainer.seed": seed,
        "output": tempfile.mkdtemp(),
    }
    result = train(load_recipe("demo_classification", values | overrides), progress=False)
    predictor: Any = swin.Predictor(result.weights, device="cpu", top_k=1)
    found = []
    for name in (RARE, COMMON):
        answers = predictor(sorted((folder / "val" / name).iterdir()))
        found.append(statistics.mean(answer.names[0] == name for answer in answers))
    return found


def measure_imbalance() -> None:
    print(f"| {NUM_COMMON} T-shirts, {NUM_RARE} shirts | shirts found | T-shirts found | mean |")
    print("| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        write_clothes(folder := Path(name))
        for way, overrides in WAYS.items():
            runs = [recalls(folder, overrides, seed) for seed in range(SEEDS)]
            rare, common = (statistics.mean(values) for values in zip(*runs, strict=True))
            print(f"| {way} | {rare:.0%} | {common:.0%} | {(rare + common) / 2:.0%} |", flush=True)


def main() -> None:
    versions = f"torch {metadata.version('torch')} on {platform.machine()}, {torch.get_num_threads()} threads"
    print(f"{MODEL}, {BATCH} images; {versions}\n")
    measure_freezing()
    print()
    measure_imbalance()


if __name__ == "__main__":
    main()
