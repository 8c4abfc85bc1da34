"""Predictions for images in any form, by a model that brings its own preprocessing and class names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from .data.decode import read_image
from .data.errors import ImageError
from .data.folder import find_images
from .data.transforms import create_transform
from .results import Classification

AnyImage: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8] | Tensor
_ENCODED = (str, os.PathLike, bytes, bytearray, memoryview)


class Predictor:
    """Classifies images: `predictor(image)` or `predictor([image, ...])`.

    An image may be a path, a file's bytes, a PIL image, a uint8 array (H, W, 3), or a uint8 or [0, 1] float tensor
    (3, H, W); grey ones (H, W), (H, W, 1) or (1, H, W) as well. An image gets the same answer alone and in a list.

    Args:
        model_or_name: a model (it is moved to `device` and put into evaluation mode, and stays so), a name of
            `list_models()`, or a checkpoint written by this package.
        weights: for a name: which weights, as in `create_model`. Not looked at otherwise.
        device: such as "cpu" or "cuda:1"; None takes the GPU if there is one.
        top_k: classes to name for an image, the likeliest first; at most all.
        batch_size: images that go through the model at once.

    Attributes:
        model: the model.
        transform: its preprocessing.
        classes: its class names, or None.

    Raises:
        ValueError: the model is not for classification or has no preprocessing; the message says what to set.
    """

    def __init__(
        self,
        model_or_name: nn.Module | str | os.PathLike[str],
        weights: str = "default",
        device: str | torch.device | None = None,
        top_k: int = 5,
        batch_size: int = 32,
    ) -> None:
        if top_k < 1 or batch_size < 1:
            raise ValueError(f"top_k={top_k} and batch_size={batch_size} must both be at least 1")
        model = model_or_name if isinstance(model_or_name, nn.Module) else _load(model_or_name, weights)
        task = getattr(model, "task", None)
        if task != "classification" or getattr(model, "num_classes", None) == 0:
            what = "has no head (num_classes=0)" if task == "classification" else f"has the task {task!r}"
            raise ValueError(f"this {type(model).__name__} {what}; Predictor takes models for classification")
        self.transform = create_transform(model)
        self.classes: Sequence[str] | None = getattr(model, "classes", None)
        self.top_k = top_k
        self.batch_size = batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()

    @overload
    def __call__(self, image: AnyImage) -> Classification: ...
    @overload
    def __call__(self, image: list[AnyImage] | tuple[AnyImage, ...]) -> list[Classification]: ...
    def __call__(self, image: Any) -> Classification | list[Classification]:
        """Classifies one image, or each of a list or tuple of them.

        Raises:
            ImageError: an image cannot be read; the message names it. `predict_files` skips such images instead.
        """
        if not isinstance(image, list | tuple):
            return self._classify([self.prepare(image)])[0]
        results: list[Classification] = []
        for start in range(0, len(image), self.batch_size):
            results += self._classify([self.prepare(one) for one in image[start : start + self.batch_size]])
        return results

    def prepare(self, image: AnyImage) -> Tensor:
        """One image in any form -> the model's input, (C, h, w). An `ImageError` says why it cannot be done."""
        if isinstance(image, _ENCODED):
            image = read_image(image, self.transform.preprocessing.channels)
        return self.transform(image)

    @torch.inference_mode()
    def _classify(self, inputs: list[Tensor]) -> list[Classification]:
        # A module handed in may since have gone back to training.
        self.model.eval()
        dtype = next((parameter.dtype for parameter in self.model.parameters()), torch.float32)
        logits = self.model(torch.stack([one.to(self.device) for one in inputs]).to(dtype))
        scores, labels = logits.float().softmax(-1).topk(min(self.top_k, logits.shape[-1]))
        return [
            Classification(labels=tuple(best), scores=tuple(values), names=tuple(self._name(label) for label in best))
            for best, values in zip(labels.tolist(), scores.tolist(), strict=True)
        ]

    def _name(self, label: int) -> str:
        return self.classes[label] if self.classes is not None else f"class {label}"


def predict_files(
    predictor: Predictor, patterns: Sequence[str | os.PathLike[str]], batch_size: int | None = None
) -> Iterator[tuple[str, Classification | ImageError]]:
    """Classifies files, whatever happens to some of them.

    Args:
        predictor: what classifies.
        patterns: files; folders, which are searched through for images; globs, in which ** stands for any folders.
        batch_size: images at once; None for the predictor's own.

    Yields:
        Each file once, in the order of the patterns and sorted within one, with its result or the `ImageError` that
        says what is wrong with it. A pattern that matches nothing comes with an `ImageError` of its own.
    """
    size = batch_size if batch_size is not None else predictor.batch_size
    if size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    pending: list[tuple[str, Tensor | ImageError]] = []
    for path, problem in _expand(patterns):
        try:
            pending.append((path, problem or predictor.prepare(path)))
        except ImageError as error:
            pending.append((path, error))
        if len(pending) >= size:
            yield from _flush(predictor, pending)
            pending = []
    yield from _flush(predictor, pending)


def _flush(
    predictor: Predictor, pending: list[tuple[str, Tensor | ImageError]]
) -> Iterator[tuple[str, Classification | ImageError]]:
    inputs = [one for _, one in pending if isinstance(one, Tensor)]
    results = iter(predictor._classify(inputs) if inputs else [])
    for path, one in pending:
        yield path, one if isinstance(one, ImageError) else next(results)


def _expand(patterns: Sequence[str | os.PathLike[str]]) -> Iterator[tuple[str, ImageError | None]]:
    """(file, None) for each file that the patterns stand for, or (pattern, error) for one that stands for none."""
    seen: set[str] = set()
    for pattern in (os.fspath(one) for one in patterns):
        found: list[str] = []
        # A file's own name may hold the signs of a glob.
        matches = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        for match in matches:
            found += find_images(match) if os.path.isdir(match) else [match]
        if not found and glob.has_magic(pattern):
            yield pattern, ImageError(f"{pattern} matches no images; check the pattern (looked from {Path.cwd()})")
        elif not found and matches:
            yield pattern, ImageError(f"{pattern} is a folder without images; give one that has some")
        elif not found:
            found = [pattern]  # let the reader say what is wrong with it
        for path in found:
            if os.path.abspath(path) not in seen:
                seen.add(os.path.abspath(path))
                yield path, None


def _load(source: str | os.PathLike[str], weights: str) -> nn.Module:
    from .models.registry import create_model, list_models, load_model

    text = os.fspath(source)
    name, dot, _ = text.partition(".")
    if name in list_models() and not Path(text).exists():
        return create_model(text, weights=None if dot else weights)
    return load_model(text)
