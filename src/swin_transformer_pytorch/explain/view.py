"""One image as a model takes it, where its pixels lie on what the model sees, and the model as it is looked into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..backbone.swin import Swin
from ..data.images.pixels import as_pixels, height_width
from ..models.exported import ExportedModel
from ..models.inputs import model_input
from ..models.mask2former import Mask2Former
from ..ops.padding import pad_batch
from ..optimize import is_optimized
from ..predict import AnyImage, Predictor
from ..sizes import Size
from ..weights.preprocessing import DensePreprocessing


class ExplainError(ValueError):
    """What cannot be looked into. The message names it and the fix."""


class NotInImageError(ExplainError):
    """What this image does not have, though another may."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What a model sees of one image.

    Attributes:
        pixels: the model's input.
        input_size: (height, width) of the part of it that is no padding.
        image_size: (height, width) of the image itself.
        seen: the part of the image that is seen: left, top, right and bottom edges in the image's pixels.
        scale_factor: input's over image's pixels, (x, y, x, y), as detectors take it.
    """

    pixels: Float[Tensor, "1 C h w"]
    input_size: Size
    image_size: Size
    seen: tuple[float, float, float, float]
    scale_factor: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def places(self, axis: int) -> NDArray[np.float64]:
        """Where the centres of the image's rows (axis 0) or columns (1) lie on the input, in its pixels."""
        start, stop = self.seen[1 - axis], self.seen[3 - axis]
        centres = np.arange(self.image_size[axis], dtype=np.float64) + 0.5
        places: NDArray[np.float64] = (centres - start) / (stop - start) * self.input_size[axis]
        return places

    def spread(self, values: NDArray[Any], stride: Size, *, smooth: bool) -> NDArray[np.float64]:
        """A map (..., h, w) of cells of `stride` pixels of the input, on the image: (..., H, W).

        Between the cells' centres it is interpolated if `smooth`, as OpenCV resizes; otherwise a cell has one value.
        What the model does not see of the image is NaN.
        """
        matrices, unseen = [], []
        for axis in (0, 1):
            places, cells = self.places(axis), np.arange(values.shape[axis - 2])
            if smooth:
                nearest = np.clip(places / stride[axis] - 0.5, 0, cells[-1])
                matrices.append(np.maximum(1 - np.abs(nearest[:, None] - cells), 0))
            else:
                matrices.append((np.floor(places / stride[axis])[:, None] == cells).astype(np.float64))
            unseen.append((places < 0) | (places >= self.input_size[axis]))
        image: NDArray[np.float64] = matrices[0] @ values.astype(np.float64) @ matrices[1].T
        image[..., unseen[0], :] = np.nan
        image[..., unseen[1]] = np.nan
        return image

    def box(self, box_xyxy: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box in pixels of the input, in those of the image."""
        left, top, right, bottom = self.seen
        x, y = (right - left) / self.input_size[1], (bottom - top) / self.input_size[0]
        return left + box_xyxy[0] * x, top + box_xyxy[1] * y, left + box_xyxy[2] * x, top + box_xyxy[3] * y


def view_of(source: nn.Module | Predictor, model: nn.Module, image: AnyImage) -> View:
    """The view of an image in any form that a predictor takes, or of a batch of one as `model` takes it."""
    if isinstance(image, Tensor) and image.ndim == 4:
        if len(image) != 1:
            raise ExplainError(f"images {tuple(image.shape)} are {len(image)}; give one, (1, channels, height, width)")
        if not image.is_floating_point():
            raise ExplainError(
                f"images {tuple(image.shape)} are {image.dtype}; give one image (channels, height, width), or a batch "
                "of one that is normalised as the model takes it"
            )
        pixels = model_input(model, image.clone())  # of inference mode, none could get a gradient
        height, width = image.shape[2:]
        seen = (0.0, 0.0, float(width), float(height))
        return View(pixels=pixels, input_size=(height, width), image_size=(height, width), seen=seen)
    predictor = source
    if not isinstance(predictor, Predictor):
        if getattr(model, "preprocessing", None) is None:
            raise ExplainError(
                f"this {type(model).__name__} does not say how its images are prepared: give a tensor "
                "(1, channels, height, width) as it takes them, or set model.preprocessing"
            )
        predictor = Predictor(model, device=next(model.parameters()).device)
    if not predictor.looks_once:
        raise ExplainError(
            "this predictor looks at an image several times (multi_scale, flip, or mode='slide'), and one look can be "
            "explained: give a predictor without them"
        )
    preprocessing = predictor.transform.preprocessing
    source_pixels = as_pixels(predictor.read(image), preprocessing.channels, preprocessing.white_level)
    prepared, image_size = predictor.transform(source_pixels), height_width(source_pixels)
    if isinstance(preprocessing, DensePreprocessing):
        is_padded = predictor.model.task == "detection" or isinstance(predictor.model, Mask2Former)
        padded_to = preprocessing.size_divisor if is_padded else 1
        return View(
            pixels=model_input(model, pad_batch([prepared.pixels], padded_to)),
            input_size=prepared.image_size,
            image_size=image_size,
            seen=(0.0, 0.0, float(image_size[1]), float(image_size[0])),
            scale_factor=prepared.scale_factor,
        )
    return View(
        pixels=model_input(model, prepared[None]),
        input_size=preprocessing.image_size,
        image_size=image_size,
        seen=predictor.transform.seen(image_size),
    )


def find_swin(model: nn.Module) -> tuple[str, Swin]:
    """The Swin in a model, and what the names of its modules begin with.

    Raises:
        ExplainError: there is none, or only in a form that nothing can be seen in.
    """
    if isinstance(model, ExportedModel):
        raise ExplainError(
            f"{model.file.path} is an exported file, in which neither gradients nor layers can be seen: give the model "
            "that it was made from"
        )
    if is_optimized(model):
        raise ExplainError(
            "an optimised model has neither gradients nor its layers: give the one that optimize_for_inference was "
            "given"
        )
    for name, module in model.named_modules():
        if isinstance(module, Swin):
            return f"{name}." if name else "", module
    raise ExplainError(f"{type(model).__name__} holds no Swin of this package: give a model of create_model")


@contextmanager
def looking_into(source: nn.Module | Predictor) -> Iterator[nn.Module]:
    """The model, as it runs layer by layer in evaluation mode; afterwards it is as it was before."""
    model = source.model if isinstance(source, Predictor) else source
    model = getattr(model, "_orig_mod", model)  # what torch.compile was given
    modes = {module: module.training for module in model.modules()}
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad and not parameter.is_inference()]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        if any(module._compiled_call_impl is not None for module in modes):
            stack.enter_context(torch.compiler.set_stance("force_eager"))  # compiled code calls no hooks
        try:
            model.eval()
            for parameter in learnt:  # so that nothing is stored for a gradient of it
                parameter.requires_grad_(False)
            yield model
        finally:
            for module, mode in modes.items():
                module.training = mode
            for parameter in learnt:
                parameter.requires_grad_(True)
