"""The predictor: one call for models of all tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from ..checks import require
from ..data.errors import ImageError
from ..data.images.bands import read_pixels
from ..data.images.decode import ImageSource
from ..data.images.decoding import Decoding
from ..data.images.opened import OpenedImage
from ..data.images.pixels import ImageInput, as_picture
from ..data.images.remote import fetched
from ..models.config import FINE_TUNE_FIRST
from ..models.exported import ExportedMask2Former
from ..models.mask2former import Mask2Former
from ..weights.finite import named, not_finite
from .classification import ClassificationTask
from .detection import DetectionTask
from .mask2former import Mask2FormerTask, SeveralViewsTask
from .segmentation import SegmentationTask
from .task import AnyImage, Mode, Prediction, PredictionTask, class_names

OnError = Literal["raise", "return"]


class Predictor:
    """Classifies, detects or segments by what its model is for: `predictor(image)` or `predictor([image, ...])`.

    An image may be a path, an http(s) address (of at most 100 MB, within two minutes), a file's bytes, a PIL image, a
    uint8 array (H, W, 3), or a uint8 or [0, 1] float tensor (3, H, W); grey ones (H, W), (H, W, 1) or (1, H, W) as
    well. An image gets the same answer alone and in a list: `Classification`, `Detections`, `SegmentationMap` or
    `PanopticSegmentation`, all but the first in the image's own pixels.

    Args:
        model_or_name: a model (it is moved to `device` and put into evaluation mode, and stays so), a name of
            `list_models()`, a checkpoint written by this package, or an exported file, .onnx or .xml.
        weights: for a name: which weights, as in `create_model`. Not looked at otherwise.
        device: such as "cpu" or "cuda:1"; None takes the GPU if there is one, and the CPU for an exported file.
        top_k: classification: classes to name for an image, the likeliest first; at most all.
        batch_size: images that go through the model at once, those of equal size; None for 32 to classify, else 4.
        score_threshold: detection: least score of the objects that are given; None for all that the model gives.
        mode: detection and segmentation, but for a Mask2Former: "whole", or "slide" for large images, through
            overlapping windows; see `DetectionTask` and `SegmentationTask`.
        crop_size: "slide": (height, width) of a window.
        stride: "slide": (height, width) from a window to the next.
        multi_scale: detection and segmentation: whether to look at each image at several sizes. Slow. Of Mask2Formers
            semantic ones alone can.
        flip: likewise: whether to look at its mirror image too.
        max_pixels: the most pixels that a file may have; None for PIL's own limit, see `data.images.decode.open_image`.
        decoding: classification: "exact", or "scaled" to decode large JPEGs no larger than needed, which is faster and
            gives other numbers; see `data.images.opened.OpenedImage`.
        on_error: what becomes of an image that cannot be used: "raise" its `ImageError`, or "return" it in the place of
            the answer, so that it loses no other image's.

    Attributes:
        model: the model.
        transform: its preprocessing.
        classes: its class names, or None.
        looks_once: whether it gives what the model says of the whole image, not of several sizes, sides or windows.

    Raises:
        ValueError: the model has no task that is known, no preprocessing, or weights that are NaN or infinite, or an
            option is for another task; the message says what to set.
    """

    def __init__(
        self,
        model_or_name: nn.Module | str | os.PathLike[str],
        weights: str = "default",
        device: str | torch.device | None = None,
        top_k: int = 5,
        batch_size: int | None = None,
        *,
        score_threshold: float | None = None,
        mode: Mode | None = None,
        crop_size: tuple[int, int] | None = None,
        stride: tuple[int, int] | None = None,
        multi_scale: bool = False,
        flip: bool = False,
        max_pixels: int | None = None,
        decoding: Decoding = "exact",
        on_error: OnError = "raise",
    ) -> None:
        counts = {"top_k": top_k, "batch_size": batch_size, "max_pixels": max_pixels}
        for what, count in counts.items():
            require(count is None or count >= 1, what, count, "use a whole number of at least 1")
        require(decoding in get_args(Decoding), "decoding", decoding, "use 'exact' or 'scaled'")
        require(on_error in get_args(OnError), "on_error", on_error, "use 'raise' or 'return'")
        model = model_or_name if isinstance(model_or_name, nn.Module) else _load(model_or_name, weights)
        # Other buffers may hold infinities on purpose, as masks do.
        statistics = {name: it for name, it in model.named_buffers() if name.endswith(("running_mean", "running_var"))}
        if bad := not_finite({**dict(model.named_parameters()), **statistics}):
            raise ValueError(
                f"the model's weights are damaged: {len(bad):,} of its tensors hold NaN or infinite numbers "
                f"({named(bad)}), with which no answer is right; load other weights"
            )
        name = getattr(model, "task", None)
        views = {"multi_scale": multi_scale, "flip": flip}
        windows = {"mode": mode, "crop_size": crop_size, "stride": stride}
        if name != "classification":
            _refuse(name, decoding=None if decoding == "exact" else decoding)
        task: PredictionTask
        if name == "classification" and getattr(model, "num_classes", None) != 0:
            _refuse(name, score_threshold=score_threshold, **windows, **views)
            task = ClassificationTask(model, top_k=top_k)
        elif isinstance(model, Mask2Former | ExportedMask2Former):
            _refuse(f"{name} by a Mask2Former, which looks at whole images", **windows)
            if name != "segmentation":
                _refuse(f"{name} by a Mask2Former, whose views' queries are not each other's", **views)
            if name != "detection":
                _refuse(name, score_threshold=score_threshold)
            if multi_scale or flip:
                task = SeveralViewsTask(model, multi_scale=multi_scale, flip=flip)
            else:
                task = Mask2FormerTask(model, score_threshold=score_threshold)
        elif name == "detection":
            task = DetectionTask(
                model,
                score_threshold=score_threshold,
                mode=mode or "whole",
                crop_size=crop_size,
                stride=stride,
                multi_scale=multi_scale,
                flip=flip,
            )
        elif name == "segmentation":
            _refuse(name, score_threshold=score_threshold)
            task = SegmentationTask(
                model, mode=mode or "whole", crop_size=crop_size, stride=stride, multi_scale=multi_scale, flip=flip
            )
        else:
            if name == "pretraining":
                raise ValueError(f"this {type(model).__name__} has nothing to say of an image yet: {FINE_TUNE_FIRST}")
            what = "has no head (num_classes=0)" if name == "classification" else f"has the task {name!r}"
            raise ValueError(
                f"this {type(model).__name__} {what}; Predictor takes models for classification, detection, "
                "segmentation and panoptic segmentation"
            )
        self._task = task
        self.looks_once = not (multi_scale or flip or mode == "slide")
        self.transform: Any = task.transform
        self.classes = class_names(model)
        self.top_k = top_k
        self.max_pixels = max_pixels
        self.decoding: Decoding = decoding
        self.on_error = on_error
        self.batch_size = batch_size or task.batch_size
        usual = getattr(model, "default_device", "cuda" if torch.cuda.is_available() else "cpu")
        self.device = torch.device(device or usual)
        self.model = model.to(self.device).eval()

    @overload
    def __call__(self, image: list[AnyImage] | tuple[AnyImage, ...]) -> list[Any]: ...
    @overload
    def __call__(self, image: AnyImage) -> Any: ...
    def __call__(self, image: Any) -> Any:
        """The answer for one image, or for each of a list or tuple of them.

        Raises:
            ImageError: an image cannot be read, and `on_error` is "raise"; the message names it.
        """
        images = image if isinstance(image, list | tuple) else [image]
        results: list[Prediction | ImageError] = []
        for start in range(0, len(images), self.batch_size):
            results += self.answers(images[start : start + self.batch_size], self.predict_prepared)
            bad = [result for result in results[start:] if isinstance(result, ImageError)]
            if bad and self.on_error == "raise":
                raise bad[0]
        return results if image is images else results[0]

    def features(self, images: Sequence[AnyImage]) -> NDArray[np.float32]:
        """What a classifier's head takes of each image, float32 (N, C): the mean of its normalised last map.

        Raises:
            ImageError: an image cannot be read, whatever `on_error` is.
            ValueError: it is no list, the model is no classifier, or a file that holds no more than its answers.
        """
        if not isinstance(images, list | tuple):
            raise ValueError(f"features takes a list of images, not a {type(images).__name__}; put it into one")
        found: list[Any] = []
        for start in range(0, len(images), self.batch_size):
            found += self.answers(images[start : start + self.batch_size], self.features_prepared)
            if bad := [one for one in found[start:] if isinstance(one, ImageError)]:
                raise bad[0]
        return np.stack(found) if found else np.zeros((0, getattr(self.model, "num_features", 0)), dtype=np.float32)

    def answers(self, images: Sequence[AnyImage | ImageError], answer: Callable[[Sequence[Any]], Any]) -> list[Any]:
        """What `answer` gives for prepared images, all at once; in the places of bad ones are their errors."""
        prepared = [image if isinstance(image, ImageError) else self._prepared(image) for image in images]
        usable = [one for one in prepared if not isinstance(one, ImageError)]
        found = iter(answer(usable) if usable else ())
        return [one if isinstance(one, ImageError) else next(found) for one in prepared]

    def _prepared(self, image: AnyImage) -> Any:
        try:
            return self.prepare(image)
        except ImageError as error:
            return error

    def prepare(self, image: AnyImage) -> Any:
        """One image in any form -> what `predict_prepared` takes. An `ImageError` says why it cannot be done."""
        if isinstance(self._task, ClassificationTask) and isinstance(image, str | os.PathLike | bytes):
            return self._task.prepare(self._opened(image))
        return self._task.prepare(self.read(image))

    def _opened(self, image: str | os.PathLike[str] | bytes) -> OpenedImage:
        preprocessing = self.transform.preprocessing
        return OpenedImage(
            fetched(image),
            preprocessing.channels,
            max_pixels=self.max_pixels,
            white_level=preprocessing.white_level,
            decoding=self.decoding,
        )

    def read(self, image: AnyImage) -> ImageInput:
        """An image file's pixels, with as many channels as the model takes; an image that is none stays as it is."""
        if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
            return self._read(image, self.transform.preprocessing.channels)
        return image

    def picture(self, source: ImageSource) -> Image.Image:
        """An image file as `visualize.annotate` draws on it; in colour, or of other channels some."""
        channels = self.transform.preprocessing.channels
        return as_picture(self._read(source, 3 if channels == 1 else channels))

    def _read(self, source: ImageSource, channels: int) -> Image.Image | torch.Tensor:
        white_level = self.transform.preprocessing.white_level
        return read_pixels(fetched(source), channels, max_pixels=self.max_pixels, white_level=white_level)

    @torch.inference_mode()
    def predict_prepared(self, prepared: Sequence[Any]) -> Sequence[Prediction]:
        """The answers for images that `prepare` gave."""
        # A module handed in may since have gone back to training.
        self.model.eval()
        return self._task.predict(prepared)

    @torch.inference_mode()
    def features_prepared(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """The `features` of images that `prepare` gave."""
        if not isinstance(self._task, ClassificationTask):
            raise ValueError("features are of classifiers, and this model is none; give a classifier of its backbone")
        self.model.eval()
        return self._task.features(prepared)


def _refuse(task: str | None, **options: object) -> None:
    """An option that would silently change nothing is a mistake."""
    given = [f"{name}={value!r}" for name, value in options.items() if value not in (None, False)]
    if given:
        raise ValueError(f"{', '.join(given)} cannot be used with this model, which is for {task}; leave it out")


def _load(source: str | os.PathLike[str], weights: str) -> nn.Module:
    from ..models.registry import create_model, list_models, load_model
    from ..models.runtimes import is_exported

    text = os.fspath(source)
    name, dot, _ = text.partition(".")
    if name in list_models() and not Path(text).exists() and not is_exported(text):
        return create_model(text, weights=None if dot else weights)
    return load_model(text)
