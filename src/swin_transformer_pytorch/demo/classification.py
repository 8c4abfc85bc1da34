"""The demo's part on classification: the shipped model measured, a small one trained from scratch, pictures of both."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from torch import nn

from ..data.classification.dataset import EvaluationDataset
from ..data.classification.fashion import ArrayDataset, FashionSample
from ..data.transforms import create_transform
from ..evaluation.classification import ClassificationReport, evaluate
from ..models.registry import load_model
from ..predict import Predictor
from ..results import Classification
from ..training import TrainResult, load_recipe, train
from ..training.recipes.tasks import AnyRecipe
from ..visualize import confusion_matrix_picture, prediction_grid, training_curve
from ..whole import replacing, write_text

RECIPE = "demo_classification"
FILES = {
    "grid of predictions": "predictions.png",
    "predictions": "predictions.jsonl",
    "confusion matrix": "confusion_matrix.png",
    "training curve": "training_curve.png",
    "weights trained here": "trained_here.safetensors",
    "images to try": "images",
}
_GRID_IMAGES = 28  # four full rows
_SAMPLE_IMAGES = 10


def show_shipped_classifier(output: Path, *, console: Console, progress: bool) -> ClassificationReport:
    """Measures the shipped model on the embedded test images, and writes its predictions, pictures and samples."""
    test = FashionSample("test")
    files = {name: output / file for name, file in FILES.items()}
    model = load_model("fashion")
    report = _measure(model, progress=progress)
    console.print(_figures(report))
    results = Predictor(model, top_k=5)([test[index][0] for index in range(len(test))])
    write_predictions(test, results, files["predictions"])
    shown = range(0, len(test), max(1, len(test) // _GRID_IMAGES))[:_GRID_IMAGES]
    prediction_grid(
        [test[index][0] for index in shown],
        [results[index] for index in shown],
        [int(test.labels[index]) for index in shown],
        files["grid of predictions"],
        classes=test.classes,
    )
    confusion_matrix_picture(report.confusion_matrix, test.classes, files["confusion matrix"])
    write_samples(test, files["images to try"])
    return report


def train_a_classifier(output: Path, *, seconds: float, console: Console, progress: bool) -> ClassificationReport:
    """Trains a small model for about so long, and measures it on the embedded test images."""
    weights = output / FILES["weights trained here"]
    run = train_for(seconds, weights, console=console, progress=progress)
    report = _measure(load_model(weights), progress=progress)
    console.print(f"{_figures(report)} after {len(run.history)} epochs")
    training_curve(run.history, output / FILES["training curve"])
    return report


def _measure(model: nn.Module, *, progress: bool) -> ClassificationReport:
    report = evaluate(model, EvaluationDataset(FashionSample("test"), create_transform(model)), progress=progress)
    assert isinstance(report, ClassificationReport), "its images have one class each"
    return report


def _figures(report: ClassificationReport) -> str:
    return f"   top-1 {report.top1:.1%}, top-5 {report.top5:.1%}"


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
        with replacing(weights) as temporary:
            shutil.copyfile(result.weights, temporary)
    return result


def _recipe(epochs: int, output: Path) -> AnyRecipe:
    # A tenth of the run warms up, however short it is.
    values = {"schedule.epochs": epochs, "schedule.warmup_epochs": epochs / 10, "output": str(output)}
    return load_recipe(RECIPE, values)


def write_predictions(images: ArrayDataset, results: Sequence[Classification], path: Path) -> None:
    """Writes a line of JSON an image: its place in the test sample, its true class, and the prediction."""
    lines = []
    for index, result in enumerate(results):
        target = images.classes[images.labels[index]]
        record = {"image": index, "target": target, "correct": target == result.names[0], **result.to_dict()}
        lines.append(json.dumps(record) + "\n")
    write_text(path, "".join(lines))


def write_samples(images: ArrayDataset, folder: Path) -> None:
    """Writes the first image of each class as a PNG file, to be tried with `swin predict`."""
    folder.mkdir(exist_ok=True)
    for label, name in enumerate(images.classes[:_SAMPLE_IMAGES]):
        first = int((images.labels == label).argmax())
        file = name.lower().replace("/", "_").replace(" ", "_")
        images[first][0].save(folder / f"{file}.png")
