"""`swin demo`: what the package does, on the real images inside it, without a download.

It evaluates the shipped model, trains a small one from scratch, and saves pictures of both, by the same functions as
`swin evaluate`, `swin train` and `swin predict`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from .data.fashion import ArrayDataset, FashionSample
from .data.training_dataset import EvaluationDataset
from .data.transforms import create_transform
from .evaluation.classification import ClassificationReport, evaluate
from .extras import require
from .models.registry import load_model
from .predict import Predictor
from .results import Classification
from .training.recipe import Recipe, load_recipe
from .training.run import TrainResult, train
from .visualize import confusion_matrix_picture, prediction_grid, training_curve

RECIPE = "demo_classification"
_GRID_IMAGES = 28  # four full rows
_SAMPLE_IMAGES = 10


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What a demo measured and wrote.

    Attributes:
        shipped: the shipped model on the 1,000 embedded test images.
        trained: the model that was trained here, on the same.
        files: what was written, by what it is.
        seconds: how long it all took.
    """

    shipped: ClassificationReport
    trained: ClassificationReport
    files: dict[str, Path]
    seconds: float


def run_demo(output: Path, *, seconds: float = 60, console: Console, progress: bool = True) -> DemoResult:
    """Runs the demo.

    Args:
        output: folder for what it writes; made where it is missing.
        seconds: about how long the model is trained; how many epochs fit is measured first.
        console: where it tells what it does.
        progress: whether to show the progress of each part.

    Raises:
        MissingExtraError: Lightning or matplotlib is not installed.
    """
    # Before anything is done: nobody should wait a minute for this message.
    for module in ("lightning", "matplotlib"):
        require(module, extra="train")
    start = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    test = FashionSample("test")
    files = {name: output / file for name, file in _FILES.items()}

    model = load_model("fashion")
    prepared = EvaluationDataset(test, create_transform(model))
    console.print(f"1. The shipped model on {len(test):,} held-out images of Fashion-MNIST (28 x 28, ten classes)")
    shipped = evaluate(model, prepared, progress=progress)
    console.print(f"   top-1 {shipped.top1:.1%}, top-5 {shipped.top5:.1%}")
    results = Predictor(model, top_k=5)([test[index][0] for index in range(len(test))])
    write_predictions(test, results, files["predictions"])
    draw(test, results, shipped, files)
    write_samples(test, files["images to try"])

    console.print(f"2. A smaller one from scratch, on {len(FashionSample('train')):,} images")
    trained_run = train_for(seconds, files["weights trained here"], console=console, progress=progress)
    model = load_model(files["weights trained here"])
    trained = evaluate(model, EvaluationDataset(test, create_transform(model)), progress=progress)
    console.print(f"   top-1 {trained.top1:.1%}, top-5 {trained.top5:.1%} after {len(trained_run.history)} epochs")
    training_curve(trained_run.history, files["training curve"])
    return DemoResult(shipped=shipped, trained=trained, files=files, seconds=time.monotonic() - start)


_FILES = {
    "grid of predictions": "predictions.png",
    "predictions": "predictions.jsonl",
    "confusion matrix": "confusion_matrix.png",
    "training curve": "training_curve.png",
    "weights trained here": "trained_here.safetensors",
    "images to try": "images",
}


def train_for(seconds: float, weights: Path, *, console: Console, progress: bool = True) -> TrainResult:
    """Trains by the demo's recipe for about so long, and saves the weights. One epoch is trained first, to be timed."""
    with tempfile.TemporaryDirectory() as folder:
        result = train(_recipe(1, Path(folder) / "timing"), progress=False)
        epoch_seconds = result.history[0]["seconds"]
        epochs = int(seconds / epoch_seconds)
        if epochs > 1:
            console.print(f"   an epoch takes {epoch_seconds:.1f} s here, so {epochs} of them about {seconds:.0f} s")
            result = train(_recipe(epochs, Path(folder) / "run"), progress=progress)
        else:
            console.print(f"   an epoch takes {epoch_seconds:.1f} s here, so it stays at one")
        shutil.copyfile(result.weights, weights)
    return result


def _recipe(epochs: int, output: Path) -> Recipe:
    # A tenth of the run warms up, however short it is.
    values = {"schedule.epochs": epochs, "schedule.warmup_epochs": epochs / 10, "output": str(output)}
    return load_recipe(RECIPE, values)


def write_predictions(images: ArrayDataset, results: Sequence[Classification], path: Path) -> None:
    """Writes a line of JSON an image: its place in the test sample, its true class, and the prediction."""
    with path.open("w", encoding="utf-8") as lines:
        for index, result in enumerate(results):
            target = images.classes[images.labels[index]]
            record = {"image": index, "target": target, "correct": target == result.names[0], **result.to_dict()}
            lines.write(json.dumps(record) + "\n")


def draw(
    images: ArrayDataset, results: Sequence[Classification], report: ClassificationReport, files: dict[str, Path]
) -> None:
    """Draws the grid and the confusion matrix."""
    shown = range(0, len(images), max(1, len(images) // _GRID_IMAGES))[:_GRID_IMAGES]
    prediction_grid(
        [images[index][0] for index in shown],
        [results[index] for index in shown],
        [int(images.labels[index]) for index in shown],
        files["grid of predictions"],
        classes=images.classes,
    )
    confusion_matrix_picture(report.confusion_matrix, images.classes, files["confusion matrix"])


def write_samples(images: ArrayDataset, folder: Path) -> None:
    """Writes the first image of each class as a PNG file, to be tried with `swin predict`."""
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(images.classes[:_SAMPLE_IMAGES]):
        first = int((images.labels == label).argmax())
        file = name.lower().replace("/", "_").replace(" ", "_")
        images[first][0].save(folder / f"{file}.png")
