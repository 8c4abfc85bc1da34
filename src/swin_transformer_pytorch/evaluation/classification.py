"""Top-1, top-5, each class's accuracy and the confusion matrix of a classifier."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .batches import stacked
from .multi_label import MultiLabelCounts, MultiLabelReport
from .report import EvaluationError, Report, difference, told_apart

__all__ = ["ClassificationCounts", "ClassificationReport", "EvaluationError", "evaluate"]


class PreparedImages(Protocol):
    """A data set of (float tensor (C, h, w) as the model takes it, label), or of what is wrong with an image.

    A label is a class index, or for a model with several labels an image 0 or 1 a class, an array.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Any] | str: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassificationReport(Report):
    """How a classifier did on a data set.

    Attributes:
        top1: part of the images whose likeliest class is the right one, in [0, 1].
        top5: part of the images whose right class is among the five likeliest; 1.0 where there are at most five.
        per_class: class name -> part of its images that are right (top-1). Classes without images are left out; names
            that several classes share (ImageNet has two "crane") get their index: "crane [134]".
        precision: class name -> part of the images that were taken for it that are of it; None where none were.
        f1: class name -> the harmonic mean of the two, `precision` and `per_class`, the class's recall.
        confusion_matrix: int64, (classes, classes): images of the row's class that were taken for the column's.
        classes: class names by index.
        num_images: how many were evaluated.
        skipped: for each image that could not be read, what is wrong with it.
    """

    top1: float
    top5: float
    per_class: dict[str, float]
    precision: dict[str, float | None]
    f1: dict[str, float]
    confusion_matrix: NDArray[np.int64]
    classes: tuple[str, ...]
    num_images: int
    skipped: tuple[str, ...] = ()


class ClassificationCounts:
    """Counts right and wrong answers, batch by batch.

    Attributes:
        num_images: how many were counted.
        in_top1: those whose right class was the likeliest.
        in_top5: those whose right class was among the five likeliest.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.num_images = self.in_top1 = self.in_top5 = 0
        # Of the confusion matrix, one an image: the matrix itself is wanted once, and of 21841 classes it has 4 GB.
        self._cells: list[Int[Tensor, " B"]] = []

    def add(self, logits: Float[Tensor, "B classes"], labels: Integer[Tensor, "B ..."]) -> None:
        """Counts a batch.

        Raises:
            EvaluationError: a label has no class.
        """
        if labels.ndim != 1:
            raise EvaluationError("the images have several labels each and the model gives one: train it on such data")
        smallest, largest = int(labels.min()), int(labels.max())
        if logits.shape[1] != self.num_classes or smallest < 0 or largest >= self.num_classes:
            raise EvaluationError(
                f"the labels go from {smallest} to {largest} and the model has {logits.shape[1]} outputs, for "
                f"{self.num_classes} classes; the data is not of the model's classes"
            )
        likeliest = logits.topk(min(5, self.num_classes), dim=1).indices.cpu()
        labels = labels.cpu()
        right = likeliest == labels.unsqueeze(1)
        self.num_images += len(labels)
        self.in_top1 += int(right[:, 0].sum())
        self.in_top5 += int(right.sum())
        self._cells.append(labels * self.num_classes + likeliest[:, 0])

    def report(self, classes: Sequence[str], *, skipped: Sequence[str] = ()) -> ClassificationReport:
        """What was counted, with the names of the classes; `skipped` is passed on."""
        square = (self.num_classes, self.num_classes)
        confusion_matrix = torch.bincount(torch.cat(self._cells), minlength=self.num_classes**2).view(square)
        of_class, right = confusion_matrix.sum(dim=1).tolist(), confusion_matrix.diagonal().tolist()
        taken = confusion_matrix.sum(dim=0).tolist()
        rows = [row for row in zip(told_apart(classes), right, of_class, taken, strict=True) if row[2]]
        return ClassificationReport(
            top1=self.in_top1 / self.num_images,
            top5=self.in_top5 / self.num_images,
            per_class={name: hits / count for name, hits, count, _ in rows},
            precision={name: hits / guessed if guessed else None for name, hits, _, guessed in rows},
            f1={name: 2 * hits / (count + guessed) for name, hits, count, guessed in rows},
            confusion_matrix=confusion_matrix.numpy(),
            classes=tuple(classes),
            num_images=self.num_images,
            skipped=tuple(skipped),
        )


def collate_usable(items: Sequence[tuple[Tensor, Any] | str]) -> tuple[Tensor | None, Tensor, list[str]]:
    """Images (B, C, h, w), or None if none could be read; labels (B,) or (B, classes); what is wrong with others."""
    readable = [item for item in items if not isinstance(item, str)]
    images = stacked([image for image, _ in readable]) if readable else None
    labels = torch.from_numpy(np.array([label for _, label in readable]))
    return images, labels, [item for item in items if isinstance(item, str)]


def evaluate(
    model: nn.Module,
    dataset: PreparedImages,
    *,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    num_workers: int = 0,
    progress: bool = True,
) -> ClassificationReport | MultiLabelReport:
    """Measures a classifier on labelled images; one with several labels an image gives a `MultiLabelReport`.

    Args:
        model: (B, C, h, w) -> (B, classes). It is moved to `device` and put into evaluation mode, and stays so.
        dataset: prepared images, such as `EvaluationDataset(images, create_transform(model))` of `data.classification`.
            Their classes are the model's; names come from `dataset.classes`, else from `model.classes`.
        batch_size: images that go through the model at once.
        device: such as "cuda"; None takes the GPU if there is one, and the CPU for an exported file.
        num_workers: processes that read images.
        progress: whether to show a bar, on a terminal only (on stderr).

    Items that are texts are left out, and the report says which.

    Raises:
        EvaluationError: there are no images, or none can be read, or the data has other classes than the model.
    """
    if batch_size < 1:
        raise EvaluationError(f"batch_size={batch_size} is not possible: use at least 1")
    if len(dataset) == 0:
        raise EvaluationError("there are no images to evaluate")
    first = dataset[0]
    if not isinstance(first, str) and not isinstance(first[0], Tensor):
        raise EvaluationError(
            f"the data set gives a {type(first[0]).__name__} and not a tensor; pass "
            "EvaluationDataset(images, create_transform(model)), which prepares the images for the model"
        )
    usual = getattr(model, "default_device", "cuda" if torch.cuda.is_available() else "cpu")
    target = torch.device(device or usual)
    model = model.to(target).eval()
    classes = _class_names(model, dataset)
    counted = MultiLabelCounts if getattr(model, "multi_label", False) else ClassificationCounts
    counts: ClassificationCounts | MultiLabelCounts | None = None
    loader: DataLoader[Any] = DataLoader(
        cast(Dataset[Any], dataset),
        batch_size,
        num_workers=num_workers,
        collate_fn=collate_usable,
        generator=torch.Generator(),
    )
    skipped: list[str] = []
    with torch.inference_mode():
        for images, labels, unreadable in _shown(loader, len(loader), progress):
            skipped += unreadable
            if images is None:
                continue
            logits = model(images.to(target)).float()
            counts = counts or counted(len(classes) if classes is not None else logits.shape[1])
            counts.add(logits, labels)
            if not bool(torch.isfinite(logits).all()):
                raise EvaluationError("the model's outputs are not all finite numbers; were its weights loaded?")
    if counts is None:
        raise EvaluationError(f"none of the {len(dataset)} images can be read; the first: {skipped[0]}")
    names = classes if classes is not None else tuple(str(index) for index in range(counts.num_classes))
    return counts.report(names, skipped=skipped)


def _class_names(model: nn.Module, dataset: PreparedImages) -> tuple[str, ...] | None:
    of_model, of_data = getattr(model, "classes", None), getattr(dataset, "classes", None)
    if of_model is not None and of_data is not None and tuple(of_model) != tuple(of_data):
        raise EvaluationError(
            f"the data has {len(of_data)} classes and the model {len(of_model)}: {difference(of_data, of_model)}. "
            "Open the data with classes=model.classes, or take the model that was trained on it"
        )
    names = of_data if of_data is not None else of_model
    return tuple(names) if names is not None else None


def _shown(batches: Iterable[Any], total: int, progress: bool) -> Iterable[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(file=sys.stderr)
    if not (progress and console.is_terminal):
        return batches
    return track(batches, "evaluating", total=total, console=console, transient=True)
