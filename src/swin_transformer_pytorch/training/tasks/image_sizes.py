"""How large a run's images become where its recipe says "auto": as the weights had them, else by the data.

Whatever is chosen is said, and that the weights' own is far from what the data would have had.
"""

from __future__ import annotations

import dataclasses
import logging
from statistics import fmean, median
from typing import Any

from ...data.images.pixels import height_width
from ...data.images.unusable import Samples, item_or_problem
from ...data.samples import image_of, spread
from ...sizes import Size
from ...weights.preprocessing import DensePreprocessing, Preprocessing
from ..recipes.parts import Auto
from .channels import channel_statistics
from .white_level import white_level_of

_LOOKED_AT = 16
_LARGEST_CROP = 224
# The weights' own and the data's choice are far apart from this factor on.
_FAR = 2

_log = logging.getLogger(__name__)


def usual_sides(samples: Samples[Any]) -> Size | None:
    """The median longer and shorter side, in pixels, of 16 images spread over a data set; None if none is readable."""
    known = getattr(samples, "image_sizes", None)  # COCO's annotations tell them
    sizes = [known[place] if known else _size(samples, place) for place in spread(len(samples), _LOOKED_AT)]
    pairs = [(max(size), min(size)) for size in sizes if size is not None]
    return (int(median(long for long, _ in pairs)), int(median(short for _, short in pairs))) if pairs else None


def dense_preprocessing(
    official: DensePreprocessing,
    scale: Size | Auto | None,
    samples: Samples[Any],
    known: DensePreprocessing | None,
    own: DensePreprocessing | None,
    *,
    channels: int = 3,
) -> DensePreprocessing:
    """A dense model's: that of the model, else the official one, at the recipe's scale and the data's white level.

    A scale of "auto" is that of the weights if they are of a model for the task. Else it is the official one, made
    smaller as far as it would enlarge the data set's usual image more than twice. Where mean and std are of other
    channels, grey takes their mean, and what is neither grey nor RGB those of the training images.

    Args:
        official: the task's.
        scale: the recipe's `data.scale`.
        samples: the training images.
        known: the model's, or None.
        own: that of the weights, or None.
        channels: of the model.
    """
    if scale == "auto":
        scale = _choose_scale(official.scale or (1, 1), samples, own)
    chosen = dataclasses.replace(known or official, scale=scale, white_level=white_level_of(samples))
    if chosen.channels == channels:
        return chosen
    if channels == 3:
        mean, std = official.mean, official.std
    elif channels == 1:
        mean, std = (fmean(chosen.mean),), (fmean(chosen.std),)
    else:
        mean, std = channel_statistics(samples, channels, white=255)
    return dataclasses.replace(chosen, mean=mean, std=std)


def choose_image_size(samples: Samples[Any], known: Preprocessing | None, *, say: bool) -> Size:
    """A classifier's (height, width): the model's own, else the usual image's shorter side, at most 224.

    Args:
        samples: the training images.
        known: the model's, or None.
        say: whether to tell what was chosen; that images lose much is told in any case.
    """
    sides = usual_sides(samples)
    side = min(sides[1], _LARGEST_CROP) if sides else _LARGEST_CROP
    size, whose = ((side, side), "by the training images") if known is None else (known.image_size, "the model's own")
    said = ""
    if sides is None:
        whose, said = "usual" if known is None else whose, "; no training image that was looked at can be read"
    elif min(size) * _FAR < side:
        said = f"; of training images of about {_by(sides)} pixels it leaves little: --data.image_size {side} sees more"
    if say or said:
        _log.warning("data.image_size=[%d, %d], %s%s", *size, whose, said)
    return size


def _choose_scale(official: Size, samples: Samples[Any], own: DensePreprocessing | None) -> Size | None:
    sides = usual_sides(samples)
    factor = min(2 * sides[1] / official[1], 1.0) if sides else 1.0
    by_data = (round(official[0] * factor), round(official[1] * factor))
    scale, whose = (by_data, "by the training images") if own is None else (own.scale, "as the weights had it")
    said = ""
    if sides is None:
        whose, said = "the usual" if own is None else whose, "; no training image that was looked at can be read"
    elif scale is not None and not 1 / _FAR <= scale[1] / by_data[1] <= _FAR:
        said = f'; for training images of about {_by(sides)} pixels, --data.scale "{list(by_data)}" is nearer'
    _log.warning("data.scale=%s, %s%s", "null" if scale is None else list(scale), whose, said)
    return scale


def _size(samples: Samples[Any], place: int) -> Size | None:
    sample = item_or_problem(lambda: samples[place])
    return None if isinstance(sample, str) else height_width(image_of(sample))


def _by(sides: Size) -> str:
    return f"{sides[0]} x {sides[1]}"
