"""The demo's part on export: the shipped classifier as a file that runs without PyTorch, beside the model itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ..data.classification.fashion import FashionSample
from ..export import export_onnx
from ..models.registry import checkpoint_model
from ..predict import Predictor

FILES = {"exported model": "fashion.onnx"}


@dataclass(frozen=True, kw_only=True)
class ExportedAnswers:
    """What a file says beside its model.

    Attributes:
        num_images: that both were asked about.
        num_equal: those of which both say the same class.
        largest_difference: of a score.
        megabytes: of the file.
    """

    num_images: int
    num_equal: int
    largest_difference: float
    megabytes: float


def show_export(output: Path, *, console: Console) -> ExportedAnswers:
    """Exports the shipped classifier to ONNX, and asks the file and the model about the embedded test images."""
    model, test = checkpoint_model("fashion"), FashionSample("test")
    file = export_onnx(model, output / FILES["exported model"])
    images: list[Any] = [test[index][0] for index in range(len(test))]
    pairs = list(zip(Predictor(model, top_k=1)(images), Predictor(file, top_k=1)(images), strict=True))
    answers = ExportedAnswers(
        num_images=len(pairs),
        num_equal=sum(own.labels == exported.labels for own, exported in pairs),
        largest_difference=max(abs(own.scores[0] - exported.scores[0]) for own, exported in pairs),
        megabytes=file.stat().st_size / 1e6,
    )
    equal = f"{answers.num_equal:,} of {answers.num_images:,} images"
    console.print(
        f"   {file.name}, {answers.megabytes:.1f} MB, for any batch and image size; in ONNX Runtime it names the "
        f"model's class for {equal}, scores within {answers.largest_difference:.0e}"
    )
    return answers
