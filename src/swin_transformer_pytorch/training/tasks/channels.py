"""How many channels a run's images have, and how those that are neither grey nor colour are normalised."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...checks import plural
from ...data.errors import DataError, some
from ...data.images.band_headers import find_bands
from ...data.images.pixels import as_pixels
from ...data.images.unusable import Samples, item_or_problem
from ...data.samples import image_of, spread
from ...models.config import Task
from ..recipes.parts import ModelRecipe
from .models import known_channels

_LOOKED_AT, _MEASURED = 16, 256  # training images
_LEAST_STD = 1e-3  # of values in [0, 1]

_log = logging.getLogger(__name__)


def settle_channels(recipe: ModelRecipe, task: Task, train: Samples[Any], others: Iterable[Any] = ()) -> int:
    """How many channels the images have, by the recipe, or by the training images where it says "auto", which is said.

    Data sets of files read their images with as many from now on.

    Args:
        recipe: which model.
        task: the recipe's.
        train: the training images.
        others: those of the other parts.

    Raises:
        DataError: the training images have different numbers of them.
    """
    channels = recipe.in_channels
    if channels == "auto":
        found = channels_of(train)
        channels, why = found or (known_channels(recipe, task), "as the model has it")
        lost = channels == 1 and found is None and has_colours(train)
        fix = "; the images' colours are lost: --model.in_channels 3 keeps them"
        _log.warning("model.in_channels=%d, %s%s", channels, why, fix * lost)
    for samples in (train, *others):
        if hasattr(samples, "channels"):
            samples.channels = channels
    return channels


def channels_of(samples: Samples[Any]) -> tuple[int, str] | None:
    """How many channels the images have, and why, in words, where they are files of bands; see `find_bands`.

    Raises:
        DataError: some have others.
    """
    paths = getattr(samples, "paths", ())
    found = [bands for place in spread(paths, _LOOKED_AT) if (bands := find_bands(paths[place]))]
    if len(counts := sorted({count for count, _ in found})) > 1:
        raise DataError(f"training images have {' and '.join(map(str, counts))} channels; say which: model.in_channels")
    return (counts[0], f"as the training images have {some(sorted({how for _, how in found}))}") if found else None


def has_colours(samples: Samples[Any]) -> bool:
    """Whether one of some training images has pixels that are not grey."""
    for place in spread(samples, _LOOKED_AT):
        image = item_or_problem(lambda: as_pixels(image_of(samples[place]), 3))  # noqa: B023
        if isinstance(image, Image.Image) and np.ptp(np.asarray(image), axis=2).any():
            return True
    return False


def channel_statistics(
    samples: Samples[Any], channels: int, *, white: int = 1
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel over some training images, each counting the same; both are said.

    Args:
        samples: the training images.
        channels: of them, neither 1 nor 3.
        white: the value of white on whose scale they are: 1, or 255 for bytes.

    Raises:
        DataError: none of the images that are looked at can be read.
    """
    moments, problem = [], ""
    for place in spread(samples, _MEASURED):
        image = item_or_problem(lambda: as_pixels(image_of(samples[place]), channels))  # noqa: B023
        if isinstance(image, Tensor):
            pixels = image.double().flatten(1)
            moments.append(torch.stack([pixels.mean(1), pixels.square().mean(1)]))
        elif isinstance(image, str):
            problem = problem or f"; the first: {image}"
    if not moments:
        count = len(spread(samples, _MEASURED))
        raise DataError(
            f"none of {plural(count, 'training image')} can be read with model.in_channels={channels}; correct it"
            f"{problem}"
        )
    mean, square = torch.stack(moments).mean(0)
    std = (square - mean.square()).clamp(min=_LEAST_STD**2).sqrt()
    digits = 4 if white == 1 else 2
    rounded = [tuple(round(value * white, digits) for value in values.tolist()) for values in (mean, std)]
    text = "preprocessing of %d channels, by %d training images: mean %s, std %s"
    _log.warning(text, channels, len(moments), *map(list, rounded))
    return rounded[0], rounded[1]
