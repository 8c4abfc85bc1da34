"""What a Mask2Former gives for images of any sizes, one by one, and its masks at other sizes, in bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..ops.padding import group_by_size, pad_batch, padded_size
from ..sizes import Size
from .bands import resize_bands
from .exported import ExportedMask2Former
from .inputs import model_input
from .mask2former import Mask2Former


class MaskInferenceError(ValueError):
    """An inference that cannot be made. The message says why and the fix."""


@dataclass(frozen=True, kw_only=True)
class QueryMasks:
    """What a Mask2Former gives for one image, and how large that is.

    Attributes:
        class_logits: a query's logit of each of K classes, and last that of none.
        mask_logits: of the padded input, at any size.
        padded_size: (height, width) of the input with its padding.
        input_size: without it.
        output_size: of the original image.
    """

    class_logits: Float[Tensor, "Q classes"]
    mask_logits: Float[Tensor, "Q h w"]
    padded_size: Size
    input_size: Size
    output_size: Size


def query_masks(
    model: Mask2Former | ExportedMask2Former,
    images: Sequence[Float[Tensor, "C _ _"]],
    output_sizes: Sequence[Size] | None = None,
) -> list[QueryMasks]:
    """What the model gives for images of any sizes, each image's as it gets it alone.

    Only images that are padded to the same size share a batch: padding is looked at like anything else.

    Args:
        model: in evaluation mode.
        images: preprocessed, not padded.
        output_sizes: (height, width) of each original image; None for those of `images`.

    Raises:
        MaskInferenceError: the model is in training mode, or there is not one size an image.
    """
    if model.training:
        raise MaskInferenceError("the model is in training mode, where its backbone drops blocks: call model.eval()")
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    outputs = sizes if output_sizes is None else list(output_sizes)
    if len(outputs) != len(images):
        raise MaskInferenceError(f"{len(outputs)} output_sizes for {len(images)} images; give one an image")
    divisor = 32 if model.preprocessing is None else model.preprocessing.size_divisor
    found: dict[int, QueryMasks] = {}
    for places in group_by_size([padded_size(size, divisor) for size in sizes]):
        batch = model_input(model, pad_batch([images[place] for place in places], divisor))
        with torch.no_grad():
            given = model(batch)
        for i, place in enumerate(places):
            found[place] = QueryMasks(
                class_logits=given.class_logits[i].float(),
                mask_logits=given.mask_logits[i].float(),
                padded_size=(batch.shape[2], batch.shape[3]),
                input_size=sizes[place],
                output_size=outputs[place],
            )
    return [found[place] for place in range(len(images))]


def masks_at_output(
    logits: Float[Tensor, "n h w"], image: QueryMasks, rows: int | None = None
) -> Iterator[Float[Tensor, "n rows W"]]:
    """Some of the image's masks at the original image's size, resized as the authors do it, in bands."""
    cut = cut_bands(resized_masks(logits, image.padded_size), image.input_size)
    return resize_bands(cut, image.input_size, image.output_size, rows)


def resized_masks(logits: Float[Tensor, "n h w"], size: Size) -> Iterator[Float[Tensor, "n rows W"]]:
    """Masks at another size, without a cut."""
    return resize_bands([logits], (logits.shape[1], logits.shape[2]), size)


def cut_bands(bands: Iterator[Float[Tensor, "n rows W"]], size: Size) -> Iterator[Float[Tensor, "n rows w"]]:
    """The upper left part of a map."""
    left = size[0]
    for band in bands:
        if left > 0:
            yield band[:, :left, : size[1]]
        left -= band.shape[1]
