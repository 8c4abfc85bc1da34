"""Boxes as corners (x0, y0, x1, y1) in pixels: overlaps, and the deltas that heads predict.

Numbers are those of the official detection code (mmdet 2.11): no "+1" in widths, deltas with mean 0, unions and
enclosures of at least 1e-6 square pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ...sizes import Size

MAX_LOG_RATIO = math.log(1000 / 16)
"""Largest |ln(new side / old side)| that a delta may ask for."""

_SMALLEST_AREA = 1e-6


def encode_boxes(
    boxes: Float[Tensor, "n 4"], targets: Float[Tensor, "n 4"], stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> Float[Tensor, "n 4"]:
    """The deltas that `decode_boxes` would need to turn each box into its target.

    (dx, dy) is the way between the centres in sides of the box, (dw, dh) the logarithm of the ratio of the sides
    (arXiv 1311.2524, appendix C), each divided by its own of `stds`.
    """
    size, target_size = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    centre, target_centre = (boxes[:, :2] + boxes[:, 2:]) * 0.5, (targets[:, :2] + targets[:, 2:]) * 0.5
    deltas = torch.cat([(target_centre - centre) / size, torch.log(target_size / size)], dim=1)
    return deltas / deltas.new_tensor(stds)


def decode_boxes(
    boxes: Float[Tensor, "*#n 4"],
    deltas: Float[Tensor, "*#n 4"],
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    image_size: Size | None = None,
) -> Float[Tensor, "*n 4"]:
    """Boxes moved and resized by deltas; clipped to `image_size` (height, width) where it is given.

    Leading axes broadcast: boxes (n, 1, 4) with deltas (n, classes, 4) give (n, classes, 4). The logarithms of the
    sides' ratios are clamped to +-`MAX_LOG_RATIO`, on both sides.
    """
    deltas = deltas * deltas.new_tensor(stds)
    size = boxes[..., 2:] - boxes[..., :2]
    centre = (boxes[..., :2] + boxes[..., 2:]) * 0.5 + size * deltas[..., :2]
    half = size * deltas[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() * 0.5
    decoded = torch.cat([centre - half, centre + half], dim=-1)
    return decoded if image_size is None else clip_boxes(decoded, image_size)


def clip_boxes(boxes: Float[Tensor, "*n 4"], image_size: Size) -> Float[Tensor, "*n 4"]:
    """Corners moved into [0, width] x [0, height]; a box that was outside is left with a side of 0."""
    height, width = image_size
    x, y = (boxes[..., axis::2].clamp(min=0).clamp(max=side) for axis, side in enumerate((width, height)))
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def box_areas(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(first: Float[Tensor, "n 4"], second: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of each box with each; 0 where both have no area."""
    a, b = first[:, None], second[None]
    # One axis at a time and in place: the maps of all anchors with all objects are what training's memory peaks at.
    inter = torch.minimum(a[..., 2], b[..., 2]).sub_(torch.maximum(a[..., 0], b[..., 0])).clamp_(min=0)
    inter = inter * torch.minimum(a[..., 3], b[..., 3]).sub_(torch.maximum(a[..., 1], b[..., 1])).clamp_(min=0)
    union = (box_areas(a) + box_areas(b)).sub_(inter).clamp_(min=_SMALLEST_AREA)
    return inter / union


def generalized_iou(first: Float[Tensor, "n 4"], second: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Generalised IoU (arXiv 1902.09630) of each box with the one at its place: in (-1, 1], 1 where they are equal."""
    top_left = torch.maximum(first[:, :2], second[:, :2])
    bottom_right = torch.minimum(first[:, 2:], second[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    union = (box_areas(first) + box_areas(second) - inter).clamp(min=_SMALLEST_AREA)
    around = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    enclosure = around.clamp(min=0).prod(dim=1).clamp(min=_SMALLEST_AREA)
    return inter / union - (enclosure - union) / enclosure


def flip_boxes(boxes: Float[Tensor, "*n 4"], width: int) -> Float[Tensor, "*n 4"]:
    """Boxes of the image mirrored left to right; `width` is the image's in pixels."""
    x0, y0, x1, y1 = boxes.unbind(dim=-1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=-1)


def scale_boxes(boxes: Float[Tensor, "*n 4"], scale_factor: Sequence[float]) -> Float[Tensor, "*n 4"]:
    """Boxes of an image on its resized copy; `scale_factor` is (x, y, x, y), resized over original side."""
    return boxes * torch.as_tensor(scale_factor, dtype=boxes.dtype, device=boxes.device)


def unscale_boxes(boxes: Float[Tensor, "*n 4"], scale_factor: Sequence[float]) -> Float[Tensor, "*n 4"]:
    """Back from the resized copy to the image: a division, as the official code's, not a product with the inverse."""
    return boxes / torch.as_tensor(scale_factor, dtype=boxes.dtype, device=boxes.device)
