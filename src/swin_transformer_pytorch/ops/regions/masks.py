"""Masks between the image and the grid that a mask head predicts over a box."""

from __future__ import annotations

import math

import torch
import torchvision
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from ...sizes import Size

_CHUNK_PIXELS = 1 << 20
"""Pixels whose sampling places are in memory at a time."""


def paste_masks(
    probabilities: Float[Tensor, "n m m"], boxes: Float[Tensor, "n 4"], image_size: Size, threshold: float = 0.5
) -> Bool[Tensor, "n H W"]:
    """Each grid of probabilities laid over its box by bilinear sampling: which pixels reach `threshold`.

    A pixel is looked up at its centre. Beyond the box, in a rim of one grid cell at most, probabilities fade to 0.
    Only pixels of `[floor(x0) - 1, ceil(x1) + 1)`, and so in y, are looked at, as the official code does on a CPU. Of
    a box without width all those have the grid's middle in x, and so in y: that, too, is the official code's.

    Memory beyond the result does not grow with the image; give few boxes at a time where the result itself is large.
    """
    height, width = image_size
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)
    probabilities, boxes = probabilities.float(), boxes.float()
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        left, right = _span(x0, x1, width)
        top, bottom = _span(y0, y1, height)
        if right <= left or bottom <= top:
            continue
        x = _grid_places(left, right, boxes[i, 0], boxes[i, 2])
        y = _grid_places(top, bottom, boxes[i, 1], boxes[i, 3])
        rows = max(1, _CHUNK_PIXELS // len(x))
        for start in range(0, len(y), rows):
            part = y[start : start + rows]
            places = torch.stack([x.expand(len(part), -1), part[:, None].expand(-1, len(x))], dim=-1)
            sampled = F.grid_sample(probabilities[i, None, None], places[None], align_corners=False)
            masks[i, top + start : top + start + len(part), left:right] = sampled[0, 0] >= threshold
    return masks


def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0, 0
    return max(math.floor(low) - 1, 0), min(math.ceil(high) + 1, limit)


def _grid_places(start: int, stop: int, low: Float[Tensor, ""], high: Float[Tensor, ""]) -> Float[Tensor, " k"]:
    """Where the centres of the pixels lie on the box, -1 being its near and 1 its far side."""
    centres = torch.arange(start, stop, device=low.device, dtype=torch.float32) + 0.5
    places = (centres - low) / (high - low) * 2 - 1
    # 0 / 0, a centre exactly on a side of a box without width, is outside.
    return torch.nan_to_num(torch.where(places.isinf(), 0.0, places), nan=-2.0)


def crop_masks(
    masks: UInt8[Tensor, "k H W"], indices: Int[Tensor, " n"], boxes: Float[Tensor, "n 4"], size: int
) -> Float[Tensor, "n size size"]:
    """What a mask head should predict: for each box, the mask at its index, 0 or 1 on a grid over the box.

    The box is clipped to the image, each cell is the mean over the mask's pixels in it (`roi_align`), and 1 from a
    half on.
    """
    if len(boxes) == 0:
        return torch.zeros(0, size, size, device=boxes.device)
    height, width = masks.shape[1:]
    boxes = boxes.float()
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    clipped = torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)
    # Only masks that some box needs, each once: as floats, all would take a lot of memory.
    needed, place = indices.unique(return_inverse=True)
    rois = torch.cat([place[:, None].to(clipped.dtype), clipped], dim=1)
    bitmaps = masks[needed][:, None].float()
    means = torchvision.ops.roi_align(bitmaps, rois, size, spatial_scale=1.0, sampling_ratio=-1, aligned=True)
    return (means[:, 0] >= 0.5).float()
